"""Takes orders. It asks other mods for the price and the stock, and has a mail sent."""

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Orders(BaseMod):
    version = "2.4.1"
    description = "Takes orders"

    @mod_event_handler("orders.place")
    async def place(self, event):
        price = await self.context.request("mod:prices", "prices.of", event.payload)
        await self.context.request("mod:stock", "stock.take", event.payload)
        sent = await self.context.request("mod:mailer", "mailer.send", event.payload)
        return EventResponse(True, f"order of {event.source_id} placed", {"price": price.data, "sent": sent.success})
