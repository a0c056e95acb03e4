from openagents.sdk.base_mod import BaseMod, mod_event_handler


class PassingMod(BaseMod):
    @mod_event_handler("bench.path")
    async def on_event(self, event):
        return None
