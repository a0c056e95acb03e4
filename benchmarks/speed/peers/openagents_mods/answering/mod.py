from openagents.models.event_response import EventResponse
from openagents.sdk.base_mod import BaseMod, mod_event_handler


class AnsweringMod(BaseMod):
    @mod_event_handler("bench.path")
    async def on_event(self, event):
        return EventResponse(success=True, data={"pong": event.payload["i"]})
