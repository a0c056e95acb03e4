from openagents.models.event_response import EventResponse
from openagents.sdk.base_mod import BaseMod, mod_event_handler


class EchoMod(BaseMod):
    @mod_event_handler("bench.ping")
    async def on_event(self, event):
        return EventResponse(success=True, data={"pong": event.payload["i"]})
