"""Ask the event loops of all workers whether they still turn, with one timer for the whole network.

Every worker is pinged twice in its `hang_timeout`. It has missed a heartbeat if it does not answer
within that time. A ping may go a little early, together with those of other workers, so a network
of many idle mods wakes up seldom. No round pings so many that events would have to wait for it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from ...ipc import messages
from ...ipc.errors import ModvisorError
from ...ipc.messages import Response
from ...ipc.pipe import Pipe
from ..process import Cause
from .incarnation import Incarnation

STALL = 0.25
"""Seconds by which our own timer may be late before a missing answer is mistrusted: it may lie in
the pipe, unread."""

TOGETHER = 16
"""Workers that are pinged in one round at most: about half a millisecond of work."""

APART = 0.005
"""Seconds between two rounds at least."""

_FEW = 64  # stopped heartbeats that may lie about
_EARLY = 0.1  # of the hang timeout: how much earlier a ping may go than it is due


class Heartbeat:
    """What is known of the event loop of one worker. Call `stop` when nobody wants to know any more.

    Args:
        owner: has it looked at when it is due.
        hang_timeout: seconds within which a ping must be answered.
        missed: called once, if it is not; nothing is watched afterwards.

    Attributes:
        due: loop time of the next look at it; ``earliest``: it may take place from then on.
    """

    __slots__ = ("_answer", "_hang_timeout", "_id", "_missed", "_owner", "_pipe", "_sent", "due", "earliest")

    def __init__(self, owner: Heartbeats, pipe: Pipe, hang_timeout: float, missed: Callable[[], None]) -> None:
        self._owner = owner
        self._pipe: Pipe | None = pipe
        self._hang_timeout = hang_timeout
        self._missed = missed
        self._answer: asyncio.Future[Response] | None = None  # to the last ping
        self._id: int | None = None  # of that ping; None if the pipe could not take it
        self._sent = owner.loop.time()
        self._look_at_half()

    @property
    def is_over(self) -> bool:
        return self._pipe is None

    def look(self, now: float) -> None:
        """Do what is due: send a ping, or find that the last one was not answered in time."""
        pipe, answer, end = self._pipe, self._answer, self._sent + self._hang_timeout
        if pipe is None or pipe.closed is not None:
            self.stop()
        elif answer is not None and not answer.done() and now < end:
            self.due = self.earliest = end
        elif answer is None or (answer.result().error is None if answer.done() else end <= self._owner.stalled_until):
            self._ping(pipe, now)
        else:
            missed = self._missed
            self.stop()
            missed()

    def stop(self) -> None:
        """Look no more. It may be called again."""
        if self._pipe is not None:
            self._give_up(self._pipe)
            self._pipe, self._missed = None, _nobody_asks
            self._owner.stopped()

    def _ping(self, pipe: Pipe, now: float) -> None:
        self._give_up(pipe)
        try:
            self._id, self._answer = pipe.begin(messages.PING)
        except ModvisorError:  # the pipe ended, or too many requests are unanswered already
            self._id, self._answer = None, self._owner.loop.create_future()
        self._sent = now
        self._look_at_half()

    def _look_at_half(self) -> None:
        self.due = self._sent + self._hang_timeout / 2
        self.earliest = self.due - _EARLY * self._hang_timeout

    def _give_up(self, pipe: Pipe) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        if answer.done():
            answer.exception()  # else asyncio logs that nobody has retrieved it
        elif self._id is not None:
            pipe.give_up(self._id, answer)


def _nobody_asks() -> None:
    """Take the place of what a stopped heartbeat would call, which holds on to its worker."""


class Heartbeats:
    """The heartbeats of all workers of a network. Make it in the network's loop.

    Attributes:
        stalled_until: when our own loop last came back late, by its time.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.stalled_until = 0.0
        self._looks: list[tuple[float, int, Heartbeat]] = []  # a heap, by when they are due
        self._numbers = count()  # no two heartbeats are compared
        self._living = 0
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0  # when the timer rings, by the loop's time

    def follow(self, pipe: Pipe, hang_timeout: float, missed: Callable[[], None]) -> Heartbeat:
        """Watch the worker at the other end of ``pipe``, see `Heartbeat`."""
        beat = Heartbeat(self, pipe, hang_timeout, missed)
        self._living += 1
        self._push(beat)
        if self._timer is None or beat.due < self._rings:
            self._ring_at(beat.due)
        return beat

    def stopped(self) -> None:
        """Note that one of them was stopped, and clear away those that were once they are most."""
        self._living -= 1
        if len(self._looks) > 2 * self._living + _FEW or not self._living:
            self._looks = [look for look in self._looks if not look[2].is_over]
            heapq.heapify(self._looks)
        if not self._looks and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _push(self, beat: Heartbeat) -> None:
        heapq.heappush(self._looks, (beat.due, next(self._numbers), beat))

    def _ring_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings, self._timer = when, self.loop.call_at(when, self._round)

    def _round(self) -> None:
        self._timer, now = None, self.loop.time()
        if now - self._rings > STALL:
            self.stalled_until = now
        for _ in range(TOGETHER):
            if not self._looks or self._looks[0][2].earliest > now:
                break
            beat = heapq.heappop(self._looks)[2]
            if not beat.is_over:
                beat.look(now)
            if not beat.is_over:
                self._push(beat)
        if self._looks:
            self._ring_at(max(self._looks[0][0], now + APART))


def why_silent(incarnation: Incarnation, hang_timeout: float) -> tuple[str, Cause]:
    """Return why a worker does not answer, in words and as a cause."""
    if (by := incarnation.process.stopped_by()) is None:
        return f"its event loop was blocked for more than {hang_timeout:g} s", Cause.HANG
    return (
        f"its process was stopped by {by} when it did not answer for {hang_timeout:g} s; to stop a worker for longer, "
        "raise its limits.hang_timeout",
        Cause.STOPPED,
    )
