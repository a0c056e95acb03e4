"""Knows the rate of the day."""

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Rates(BaseMod):
    version = "1.0.3"
    description = "Exchange rates of the day"

    @mod_event_handler("rates.today")
    def today(self, event):
        return EventResponse(True, data=1.17)
