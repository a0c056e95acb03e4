"""Look at every event and pass it on."""

from modvisor.mods import BaseMod, mod_event_handler


class Passing(BaseMod):
    @mod_event_handler("bench.path")
    async def path(self, event):
        return None
