"""What becomes of an agent's events: replies go to the requests that wait for them, the rest to streams and handlers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import suppress

import anyio
from anyio.abc import TaskGroup

from .errors import Closed, ModvisorClientError
from .event import REPLY, Response
from .inflow import Arrived
from .link import Waiter
from .mailboxes import Mailbox, Mailboxes
from .patterns import check_patterns
from .streams import EventStream, Listening, Replier


class Reception:
    """The streams, handlers and awaited replies of an agent.

    Args:
        handled: is called when somebody is done with an event.
        replier: what the answers of handlers go through.
    """

    def __init__(self, handled: Callable[[Arrived], None], replier: Replier) -> None:
        self._handled, self._replier = handled, replier
        self._boxes = Mailboxes(handled)
        self._listening: list[Listening] = []
        self._replies: dict[str, Waiter] = {}
        self._tasks: TaskGroup | None = None
        self._thread = 0
        self._working: set[Mailbox] = set()
        self._rested = anyio.Event()

    @property
    def unclaimed(self) -> int:
        return self._boxes.unclaimed

    # -- who listens

    def stream(self, patterns: tuple[str, ...]) -> EventStream:
        """Make a stream. It gets what waits for the first one, too."""
        stream = EventStream(self._boxes, check_patterns(patterns), self._give_out_soon)
        self._give_out_soon()
        return stream

    def add(self, listening: Listening) -> None:
        """Have a handler called, now or from the start."""
        self._listening.append(listening)
        if self._tasks is not None:
            self._begin(listening, self._tasks)

    def start(self, tasks: TaskGroup) -> None:
        """Begin to call the handlers."""
        self._tasks, self._thread = tasks, threading.get_ident()
        for listening in self._listening:
            self._begin(listening, tasks)

    def _begin(self, listening: Listening, tasks: TaskGroup) -> None:
        box = self._boxes.open(listening.patterns)
        self._working.add(box)
        tasks.start_soon(self._work, listening, box)
        self._give_out_soon()

    async def _work(self, listening: Listening, box: Mailbox) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(listening.concurrency):
                tasks.start_soon(listening.work, self._boxes, box, self._replier)
        self._working.discard(box)
        if not self._working:
            self._rested.set()

    def _give_out_soon(self) -> None:
        """Give out what waits in the next turn of the loop, so that streams made in one go all get it.

        It also settles dropped streams: the collector of garbage may call this, in any thread.
        """
        if self._tasks is not None and threading.get_ident() == self._thread:
            with suppress(RuntimeError):  # the client is being closed
                self._tasks.start_soon(self._give_out)

    async def _give_out(self) -> None:
        self._boxes.give_out()

    # -- what comes

    def expect(self, event_id: str) -> Waiter:
        """Have the reply to an event go to whom it waits for, until `forget`."""
        waiter = self._replies[event_id] = Waiter()
        return waiter

    def forget(self, event_id: str) -> None:
        self._replies.pop(event_id, None)

    def deliver(self, events: Iterable[Arrived]) -> None:
        """Give events to those who want them."""
        self._boxes.deliver([arrived for arrived in events if not self._is_reply(arrived)] if self._replies else events)

    def _is_reply(self, arrived: Arrived) -> bool:
        event = arrived.event
        waiter = self._replies.get(event.response_to or "")
        if waiter is None or event.event_name != REPLY:
            return False
        waiter.answer(Response.in_reply(event))
        self._handled(arrived)
        return True

    # -- the end

    async def finish(self) -> None:
        """Let nothing new begin: what streams have taken counts as handled, and handlers may end their event."""
        self._boxes.finish(self._working)
        if self._working:
            await self._rested.wait()

    def end(self, error: ModvisorClientError) -> None:
        """Let nothing come any more."""
        for waiter in self._replies.values():
            waiter.answer(error)
        self._boxes.end(None if isinstance(error, Closed) else error)
