"""Knows prices, with the rate of the day."""

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Prices(BaseMod):
    version = "1.8.0"
    description = "Knows what things cost"

    @mod_event_handler("prices.of")
    async def price(self, event):
        rate = await self.context.request("mod:rates", "rates.today", {})
        return EventResponse(True, data={"price": 12.5, "rate": rate.data})
