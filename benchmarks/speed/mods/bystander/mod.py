"""Handle none of the events that are measured."""

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Bystander(BaseMod):
    @mod_event_handler("elsewhere.thing.*")
    async def thing(self, event):
        return EventResponse(True)
