"""What the tests of the TypeScript client ask of a network."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from datetime import UTC, datetime

from modvisor.mods import BaseMod, EventResponse, mod_event_handler


class Held:
    """Events that are held under one key until they are let go."""

    def __init__(self) -> None:
        self.count = 0
        self.began = asyncio.Event()
        self.released = asyncio.Event()


class Lab(BaseMod):
    version = "1.0"

    async def initialize(self):
        self.held = defaultdict(Held)

    @mod_event_handler("lab.echo")
    async def echo(self, event):
        return EventResponse(True, "echoed", data=event.payload)

    @mod_event_handler("lab.refuse")
    async def refuse(self, event):
        return EventResponse(False, "there is no such group", data={"error": "no_such_group", "group": "x"})

    @mod_event_handler("lab.values")
    async def values(self, event):
        return EventResponse(True, data={"bytes": b"hi", "when": datetime(2026, 1, 31, 12, tzinfo=UTC), "none": None})

    @mod_event_handler("lab.digest")
    async def digest(self, event):
        return EventResponse(
            True,
            data={
                name: {"size": len(value), "sha256": hashlib.sha256(value).hexdigest()}
                for name, value in event.payload.items()
                if isinstance(value, bytes)
            },
        )

    @mod_event_handler("lab.hold")
    async def hold(self, event):
        held = self.held[event.payload["key"]]
        held.count += 1
        held.began.set()
        await held.released.wait()
        return EventResponse(True, data={"count": held.count})

    @mod_event_handler("lab.began")
    async def began(self, event):
        await self.held[event.payload["key"]].began.wait()
        return EventResponse(True)

    @mod_event_handler("lab.release")
    async def release(self, event):
        self.held[event.payload["key"]].released.set()
        return EventResponse(True)
