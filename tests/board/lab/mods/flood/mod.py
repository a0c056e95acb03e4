"""Sends so many events each second, to load a page that shows them."""

import asyncio

from modvisor.mods import BaseMod, Event

TURN = 0.02  # seconds


class Flood(BaseMod):
    version = "1.0.0"
    description = "Sends events without end"

    def activate(self):
        self._sending = asyncio.get_running_loop().create_task(self._send())

    async def shutdown(self):
        self._sending.cancel()

    async def _send(self):
        loop, number = asyncio.get_running_loop(), 0
        due = loop.time()
        while True:
            due = max(due + TURN, loop.time() - 1)  # what cannot be sent in time is not made up for for ever
            events = [Event(f"flood.tick.n{(number + i) % 7}") for i in range(int(self.config["rate"] * TURN))]
            number += len(events)
            await asyncio.gather(*map(self.context.send_event, events), return_exceptions=True)
            await asyncio.sleep(max(0.0, due - loop.time()))
