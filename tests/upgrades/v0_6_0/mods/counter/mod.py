"""A mod as it was written for version 0.6.0."""

import asyncio
import os

from modvisor import BaseMod, EventResponse, mod_event_handler


class Counter(BaseMod):
    version = "1.0"

    def initialize(self):
        self.count = 0
        return True

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state, from_version):
        self.count = state["count"]

    @mod_event_handler("count.up")
    async def up(self, event):
        self.count += 1
        await self.context.checkpoint(self.get_state())
        return EventResponse(True, data={"count": self.count})

    @mod_event_handler("count.stop")
    async def stop(self, event):
        """The first time, give no answer: the network is killed while the event is in its journal."""
        if event.attempt == 1 and not (marker := self.context.storage_path / "stopped").exists():
            marker.touch()
            await asyncio.Event().wait()
        return EventResponse(True, data={"count": self.count, "attempt": event.attempt})

    @mod_event_handler("count.die")
    async def die(self, event):
        os._exit(3)
