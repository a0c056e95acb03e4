"""Who gets an event: the handlers and streams of an agent, each with a mailbox of its own.

Rules:
- An event goes to every mailbox with a pattern that matches its name, and is handled when all of
  their owners are done with it.
- While there is no mailbox at all, events wait for the first one; the credit bounds them.
- While there is one, an event that nobody wants counts as handled, and is gone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable

import anyio

from .errors import ModvisorClientError
from .inflow import Arrived
from .patterns import matches


class Ended(Exception):
    """The mailbox was closed, so nothing comes any more."""


class Mailbox:
    """The events of one handler or stream that it has not taken yet. The credit bounds them."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.patterns = patterns
        self.queue: deque[Arrived] = deque()
        self.taken: list[Arrived] = []
        """What its owner has taken and is not done with."""
        self._changed = anyio.Event()
        self._end: ModvisorClientError | Ended | None = None

    def wants(self, name: str) -> bool:
        return any(matches(pattern, name) for pattern in self.patterns)

    def put(self, arrived: Arrived) -> None:
        self.queue.append(arrived)
        self._changed.set()

    def end(self, error: ModvisorClientError | None) -> None:
        """Let nothing come after what is there: `take` raises the error then, or `Ended`."""
        if self._end is None:
            self._end = error or Ended()
        self._changed.set()

    async def take(self) -> Arrived:
        """Wait for the next event and return it."""
        while not self.queue:
            if self._end is not None:
                raise self._end
            if self._changed.is_set():  # several may wait for the same one
                self._changed = anyio.Event()
            await self._changed.wait()
        arrived = self.queue.popleft()
        self.taken.append(arrived)
        return arrived


class Mailboxes:
    """All mailboxes of an agent.

    Args:
        handled: is called when an owner is done with an event.

    Attributes:
        unclaimed: how many events nobody wanted.
    """

    def __init__(self, handled: Callable[[Arrived], None]) -> None:
        self._handled = handled
        self._boxes: list[Mailbox] = []
        self._early: deque[Arrived] = deque()
        self._end: tuple[ModvisorClientError | None] | None = None
        self._dropped: deque[Mailbox] = deque()
        self.unclaimed = 0

    def open(self, patterns: tuple[str, ...]) -> Mailbox:
        """Make a mailbox. What waits for the first one is given out by `give_out`."""
        box = Mailbox(patterns)
        self._boxes.append(box)
        if self._end is not None:
            box.end(self._end[0])
        return box

    def deliver(self, events: Iterable[Arrived]) -> None:
        """Put events into the mailboxes that want them."""
        self._early.extend(events)
        self.give_out()

    def give_out(self) -> None:
        """Put what waits into the mailboxes, if there is one."""
        self.settle()
        while self._boxes and self._early:
            arrived = self._early.popleft()
            boxes = [box for box in self._boxes if box.wants(arrived.event.event_name)]
            arrived.waiting = max(1, len(boxes))
            for box in boxes:
                box.put(arrived)
            if not boxes:
                self.unclaimed += 1
                self._handled(arrived)

    def done(self, box: Mailbox, arrived: Arrived) -> None:
        """Note that the owner of a mailbox is done with an event that it took."""
        if arrived in box.taken:
            box.taken.remove(arrived)
            self._handled(arrived)

    def close(self, box: Mailbox) -> None:
        """Remove a mailbox. What its owner took counts as handled; the rest is for the others."""
        if box not in self._boxes:
            return
        self._boxes.remove(box)
        for arrived in list(box.taken):
            self.done(box, arrived)
        box.end(None)
        for arrived in reversed(box.queue):
            self._give_back(arrived)
        box.queue.clear()

    def _give_back(self, arrived: Arrived) -> None:
        if arrived.waiting == 1 and not self._boxes and self._end is None:
            self._early.appendleft(arrived)  # nobody listens any more: it waits for the next who does
        else:
            self._handled(arrived)

    def drop(self, box: Mailbox) -> None:
        """Note that the owner of a mailbox is gone: `settle` closes it. This may come from any thread."""
        self._dropped.append(box)

    def settle(self) -> None:
        """Close the mailboxes whose owners are gone."""
        while self._dropped:
            self.close(self._dropped.popleft())

    def finish(self, working: Collection[Mailbox]) -> None:
        """Let nobody take anything any more.

        Args:
            working: mailboxes whose owners say themselves when they are done. What the others have
                taken counts as handled.
        """
        self.settle()
        for box in self._boxes:
            box.queue.clear()
            box.end(None)
            if box not in working:
                for arrived in list(box.taken):
                    self.done(box, arrived)

    def end(self, error: ModvisorClientError | None) -> None:
        """Let nothing come any more, for the reason of an error, if there is one."""
        self._end = (error,)
        for box in self._boxes:
            box.end(error)
