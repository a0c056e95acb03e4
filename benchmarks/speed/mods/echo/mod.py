"""Answer with what came."""

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Echo(BaseMod):
    @mod_event_handler("bench.ping")
    async def ping(self, event):
        return EventResponse(True, data={"pong": event.payload["i"]})

    @mod_event_handler("bench.blob")
    async def blob(self, event):
        return EventResponse(True, data={"blob": event.payload["blob"]})
