"""The events of this node for one mod elsewhere: those in flight, and those that wait for the node that has it next."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class HolderGone(Exception):
    """The node that was asked is gone, and nobody knows how far it came with the event."""


class Line:
    """The events of this node for one mod elsewhere.

    Attributes:
        count, bytes: of all its events.
        most, most_bytes: what it may have of them.
        changes: how often `wake` was called.
        holder, subject: who has the mod, and where it is asked, since the last change. None: not looked up.
        is_proven: that node has shown that it serves the mod. Before that nothing is sent to it: of two
            events, one could find nobody, and the next one somebody.
        proving: the question whether it does is under way.
        avoid: nodes that do not serve the mod, as far as is known since the last change.
        problem: why the mod is not asked now, or empty.
    """

    def __init__(self) -> None:
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []  # a heap: who came first goes first
        self._going = 0  # they wait, or were woken and have not gone on yet
        self._in_flight: dict[int, tuple[asyncio.Future[Any], Any, str | None]] = {}
        self._elsewhere: dict[int, str | None] = {}  # in flight at a node that had the mod before: who sent them
        self._returns: list[asyncio.Future[None]] = []
        self.count = 0
        self.bytes = 0
        self.most: float = math.inf
        self.most_bytes: float = math.inf
        self.changes = 0
        self.holder: Any = None
        self.subject = ""
        self.is_proven = False
        self.proving: asyncio.Task[None] | None = None
        self.avoid: set[str] = set()
        self.problem = ""

    def sent(self, number: int, answer: asyncio.Future[Any], holder: Any, owner: str | None) -> None:
        self._in_flight[number] = answer, holder, owner

    def came_back(self, number: int) -> None:
        self._in_flight.pop(number, None)
        if self._elsewhere:
            self._elsewhere.pop(number, None)
            returns, self._returns = self._returns, []
            for each in returns:
                _let_go(each)

    def goes_to(self, holder: Any) -> None:
        """Send events to this node from now on. Events in flight at another node come back, or are answered there."""
        self.holder = holder
        self._elsewhere = {number: owner for number, (_, asked, owner) in self._in_flight.items() if asked != holder}

    def is_behind(self, number: int, owner: str | None) -> bool:
        """Whether an earlier event of the same sender is in flight at a node that had the mod before."""
        return any(each < number and sender == owner for each, sender in self._elsewhere.items())

    async def wait_for_return(self, deadline: float) -> None:
        """Wait until an event that is in flight has come back. Raises TimeoutError at the deadline."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._returns.append(waiter)
        await self._wait(waiter, deadline)

    def fail(self, is_meant: Callable[[Any], bool], why: Callable[[], Exception] = HolderGone) -> bool:
        """Give up what is in flight at some nodes: those that are gone, unless ``why`` says something else.

        Returns:
            whether there was something.
        """
        given_up = [answer for answer, holder, _ in self._in_flight.values() if not answer.done() and is_meant(holder)]
        for answer in given_up:
            answer.set_exception(why())
        return bool(given_up)

    def wake(self) -> None:
        """Let all waiting events go on, in the order in which they came."""
        self.changes += 1
        self.holder, self.is_proven, self.problem = None, False, ""
        self.avoid.clear()
        if self.proving is not None:
            self.proving.cancel()
            self.proving = None
        self.go()

    def go(self) -> None:
        """Do as `wake` does, when the node is the same and is now known to serve the mod."""
        while self._waiting:
            _, waiter = heappop(self._waiting)
            if not waiter.done():
                waiter.set_result(None)

    @property
    def is_clear(self) -> bool:
        """Whether an event that comes now may go at once: it overtakes none, and its node serves the mod."""
        return self.is_proven and not self._going and not self._elsewhere

    @property
    def is_queued(self) -> bool:
        """Whether events wait, or were woken and have not gone on yet."""
        return self._going > 0

    async def wait_behind(self, number: int, deadline: float) -> None:
        """Wait until the events that came before have gone on. Raises TimeoutError at the deadline."""
        if self._waiting:
            return await self.wait(number, deadline)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        loop.call_soon(_let_go, waiter)  # those that were woken run before it
        await self._wait(waiter, deadline)

    async def wait(self, number: int, deadline: float) -> None:
        """Wait until `wake`. Raises TimeoutError at the deadline."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (number, waiter))
        await self._wait(waiter, deadline)

    async def _wait(self, waiter: asyncio.Future[None], deadline: float) -> None:
        self._going += 1
        try:
            async with asyncio.timeout_at(deadline):
                await waiter
        finally:
            self._going -= 1


def _let_go(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
