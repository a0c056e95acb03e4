"""Answer events that no mod before this one has answered."""

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Answering(BaseMod):
    @mod_event_handler("bench.path")
    async def path(self, event):
        return EventResponse(True, data={"pong": event.payload["i"]})
