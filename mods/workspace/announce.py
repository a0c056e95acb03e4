"""`Announcer`: tell the network what changed, without a delay for the request that changed it."""

from __future__ import annotations

import asyncio
from typing import Any

from .. import Code, Event, EventResponse, ModContext

TIMEOUT = 10.0  # seconds that an announcement waits for other mods' handlers
MAX_PENDING = 200  # below the 256 events that a mod may have in flight, so that its requests never wait
CLOSE_SECONDS = 2.0


class Announcer:
    """Sends events in the background, in order. Logs failures; the request never sees them.

    Args:
        destination: where announcements go. With None, other mods and observers see them, and no
            agent's inbox fills.
    """

    def __init__(self, context: ModContext, destination: str | None = None) -> None:
        self._context = context
        self._destination = destination
        self._pending: set[asyncio.Task[EventResponse]] = set()
        self._dropped = 0

    async def send(self, event_name: str, payload: dict[str, Any], *, only: list[str] | None = None) -> None:
        """Announce a change.

        Args:
            only: the agents that may see it; None for everyone.
        """
        event = Event(event_name, destination_id=self._destination, payload=payload)
        if only is not None:
            event.visibility, event.allowed_agents = "restricted", only
        await self.post(event)

    async def post(self, event: Event) -> None:
        """Send an event in the background, to its own destination."""
        if len(self._pending) >= MAX_PENDING:
            self._dropped += 1
            if self._dropped in (1, 10, 100) or self._dropped % 1000 == 0:
                self._context.log.warning(
                    "%d announcements dropped so far: %d still wait for the network's answer",
                    self._dropped, MAX_PENDING,
                )  # fmt: skip
            return
        task = asyncio.create_task(self._context.send_event(event, timeout=TIMEOUT), name=event.event_name)
        self._pending.add(task)
        task.add_done_callback(self._finished)
        # Let the task's first step write the event to the pipe now. So announcements leave in the
        # order of the changes, and before the answer to the event being handled: until then the
        # network knows that event as their cause.
        await asyncio.sleep(0)

    async def close(self) -> None:
        """Wait a moment for announcements in flight, then cancel them."""
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
            # unknown_event is normal: the announcement has no destination and no mod handles it.
            self._context.log.warning("%s reached no agent: %s", task.get_name(), answer.message)
