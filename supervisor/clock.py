"""Time without pauses: one clock for everything that waits, expires or is measured.

A supervisor stands still when it is suspended (Ctrl-Z, ``docker pause``, a paused virtual machine) or
gets no processor. Nobody could answer it meanwhile, or their answers lie unread. So this time counts
for no deadline: an agent is not expired, a mod does not hang, an event is not late because of it.

How a pause is seen: the loop expects to turn every `BEAT` seconds. A turn that is late by more than
`TOLERANCE` was late because of a pause, and all of the delay is taken off the clock.

`new_loop` makes a loop whose timers follow this clock, uvloop's or asyncio's; `modvisor run` uses it. A
network in a loop of another kind keeps such a clock for its agents (`awake_time`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

from .runtime import AUTO, choose_loop, warn_of_fault

BEAT = 0.25
"""Seconds between two turns of a loop that has nothing to do."""

TOLERANCE = 0.25
"""Seconds that a turn may be late without counting as a pause: a busy machine, a large answer."""

TOLD = 1.0
"""Seconds from which a pause is logged."""

logger = logging.getLogger("modvisor.clock")


class AwakeTime:
    """Monotonic seconds in which this process ran.

    Args:
        clock: monotonic seconds, pauses included.

    Attributes:
        paused: the seconds of all pauses.
    """

    __slots__ = ("_clock", "_late", "_seen", "paused")  # each event asks for the time

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.paused = 0.0
        self._clock = clock
        self._seen = clock()
        self._late = self._seen + BEAT + TOLERANCE

    def time(self) -> float:
        """Return the seconds of this clock. They never run backwards, and go on after a pause where it began."""
        now = self._clock()
        if now > self._late:
            self._note_pause(now)
        self._seen = now
        return now - self.paused

    def beat(self) -> None:
        """Say that the process runs. Call this every `BEAT` seconds."""
        self._late = self.time() + self.paused + BEAT + TOLERANCE

    def _note_pause(self, now: float) -> None:
        pause = now - max(self._late - TOLERANCE, self._seen)
        self.paused += pause
        self._late = now + BEAT + TOLERANCE
        if pause >= TOLD:
            logger.warning("the supervisor stood still for %.1f s; all deadlines are put off by that", pause)


async def keep_beating(awake: AwakeTime) -> None:
    """Call `AwakeTime.beat` until cancelled."""
    while True:
        awake.beat()
        await asyncio.sleep(BEAT)


def awake_time(loop: asyncio.AbstractEventLoop) -> AwakeTime | None:
    """Return the clock of a loop that `new_loop` made; None for any other loop."""
    return getattr(loop, "awake", None)


def new_loop(wanted: str = AUTO) -> asyncio.AbstractEventLoop:
    """Return an event loop that knows of pauses: uvloop's, where uvloop is installed, or asyncio's.

    Logs a warning if uvloop is installed and cannot be imported.

    Args:
        wanted: the value of the key ``network.event_loop``.

    Raises:
        NoUvloop: uvloop was asked for and cannot be used.
    """
    choice = choose_loop(wanted)
    warn_of_fault(choice)
    return AwakeLoop() if choice.uvloop is None else _uvloop(choice.uvloop)


def _beat(loop: Any) -> None:
    loop.awake.beat()
    loop.call_later(BEAT, _beat, loop)


class AwakeLoop(asyncio.SelectorEventLoop):
    """asyncio's loop by `AwakeTime`: all of its timers ask `time`."""

    def __init__(self) -> None:
        self.awake = AwakeTime()
        self.time = self.awake.time  # not a method that calls it: each event asks for the time
        super().__init__()
        _beat(self)


def _uvloop(uvloop: Any) -> asyncio.AbstractEventLoop:
    class AwakeUvloop(uvloop.Loop):
        """uvloop by `AwakeTime`. Its own timers know no pauses, so each is checked when it rings."""

        def __init__(self) -> None:
            self.awake = AwakeTime()
            self.time = self.awake.time
            super().__init__()
            self.set_later = super().call_later
            _beat(self)

        def call_later(
            self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
        ) -> Any:
            return _Timer(self, self.awake.time() + delay, callback, args, context)

        def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Any:
            return _Timer(self, when, callback, args, context)

    return AwakeUvloop()


_EARLY = 0.0015  # seconds that a timer of uvloop may ring too early: it counts in milliseconds


class _Timer:
    """A timer of uvloop that is set again if the loop stood still meanwhile."""

    __slots__ = ("_args", "_callback", "_context", "_due", "_handle", "_loop")

    def __init__(
        self, loop: Any, due: float, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None
    ) -> None:
        self._loop = loop
        self._due = due
        self._callback = callback
        self._args = args
        self._context = context
        self._set()

    def _set(self) -> None:
        delay = max(0.0, self._due - self._loop.awake.time())
        self._handle = self._loop.set_later(delay, self._ring, context=self._context)

    def _ring(self) -> None:
        if self._loop.awake.time() < self._due - _EARLY:
            self._set()
        else:
            self._callback(*self._args)

    def when(self) -> float:
        return self._due

    def cancel(self) -> None:
        self._handle.cancel()

    def cancelled(self) -> bool:
        return self._handle.cancelled()
