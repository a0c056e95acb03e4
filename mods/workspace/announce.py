"""Telling the network what changed, without making the one who changed it wait."""

from __future__ import annotations

import asyncio
from typing import Any

from .. import Code, Event, EventResponse, ModContext

TIMEOUT = 10.0  # seconds; what an announcement waits for is other mods' handlers, whose trouble is not ours
MAX_PENDING = 200  # below the 256 events a mod may have under way, so that announcements never block its requests
CLOSE_SECONDS = 2.0


class Announcer:
    """Sends events in the background, in order. A failure is logged; it never reaches the request that changed something.

    Args:
        destination: of announcements that name none of their own. None: other mods and observers see them, no inbox fills.
    """

    def __init__(self, context: ModContext, destination: str | None = None) -> None:
        self._context = context
        self._destination = destination
        self._pending: set[asyncio.Task[EventResponse]] = set()
        self._dropped = 0

    async def send(self, event_name: str, payload: dict[str, Any], *, only: list[str] | None = None) -> None:
        """Announce a change.

        Args:
            only: the agents that may see it; None: everyone.
        """
        event = Event(event_name, destination_id=self._destination, payload=payload)
        if only is not None:
            event.visibility, event.allowed_agents = "restricted", only
        await self.post(event)

    async def post(self, event: Event) -> None:
        """Send any event in the background."""
        if len(self._pending) >= MAX_PENDING:
            self._dropped += 1
            if self._dropped in (1, 10, 100) or self._dropped % 1000 == 0:
                self._context.log.warning(
                    "%d announcements dropped so far: %d are still waiting for the network's answer",
                    self._dropped, MAX_PENDING,
                )  # fmt: skip
            return
        task = asyncio.create_task(self._context.send_event(event, timeout=TIMEOUT), name=event.event_name)
        self._pending.add(task)
        task.add_done_callback(self._finished)
        # The task's first step writes the event to the pipe: it leaves before the answer to the event being handled, while
        # the network still knows that one as its cause, and in the order of the changes.
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Wait a moment for what is under way, then give up on it."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=CLOSE_SECONDS)
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    def _finished(self, task: asyncio.Task[EventResponse]) -> None:
        self._pending.discard(task)
        if task.cancelled():
            self._context.log.warning("%s was not announced: the mod was shut down first", task.get_name())
        elif (error := task.exception()) is not None:
            self._context.log.warning("%s was not announced: %s", task.get_name(), error)
        elif not (answer := task.result()).success and answer.error != Code.UNKNOWN_EVENT:
            # unknown_event: it had no destination and no other mod cares. That is the normal case.
            self._context.log.warning("%s reached nobody: %s", task.get_name(), answer.message)
