"""Why an incarnation of a mod ended, with everything that helps to find out: one report per end that nobody asked for."""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from .process import Exit

KEPT = 20  # reports per mod: enough to see a pattern
REPORTED_LINES = 50
REPORTED_EVENTS = 100  # events named in a report; their number is told in full


class Cause(StrEnum):
    """Every way to fail, told apart."""

    EXITED = "exited"  # with an exit code, of its own doing
    SIGNAL = "signal"  # killed by a signal that was not ours
    OUT_OF_MEMORY = "out_of_memory"  # killed by the kernel, which had no memory left
    HANG = "hang"  # its event loop was blocked; killed by us
    PROTOCOL_VIOLATION = "protocol_violation"  # broke the rules of the pipe; killed by us
    LIMIT_HIT = "limit_hit"  # used more than it may; killed by us, or by the kernel (SIGXCPU: cpu_seconds)
    START_FAILURE = "start_failure"  # a restart did not come to serve


@dataclass(frozen=True, slots=True)
class CrashReport:
    """One end of an incarnation.

    Attributes:
        at: Unix seconds, for people. ``uptime``: seconds it lived.
        detail: the cause in words: exit code, signal by name, what was blocked, which limit.
        traceback: the stack of every thread where it hung or broke, else the last Python traceback in its log, if there is one.
        log: the last lines it wrote.
        in_flight: the events it was handling: event_id, event_name, source_id, attempt; ``in_flight_count`` of them.
        alone: it was handling one event under suspicion, alone: that event is to blame, not the mod.
        resources: the newest sample before the end, None if it lived too short for one.
        usage: of the process over its whole life, from the kernel: cpu_seconds, max_rss (bytes); None if nobody could tell.
    """

    mod_id: str
    version: str | None
    incarnation: int
    pid: int | None
    at: float
    uptime: float
    cause: Cause
    detail: str
    traceback: str | None
    log: list[str]
    in_flight: list[dict[str, Any]]
    in_flight_count: int
    alone: bool = False
    resources: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class CrashLog:
    """The newest reports of one mod, oldest first."""

    def __init__(self) -> None:
        self._reports: deque[CrashReport] = deque(maxlen=KEPT)
        self.total = 0

    def add(self, report: CrashReport) -> None:
        self._reports.append(report)
        self.total += 1

    def __iter__(self):
        return iter(self._reports)

    @property
    def last(self) -> CrashReport | None:
        return self._reports[-1] if self._reports else None


def crash_cause(exit: Exit, cause: Cause | None) -> Cause:
    """What to call an end: what we know we did, else what the kernel says."""
    if cause is not None:
        return cause
    if exit.signal == signal.SIGXCPU:
        return Cause.LIMIT_HIT
    return Cause.SIGNAL if exit.signal is not None else Cause.EXITED


def crash_detail(exit: Exit, reason: str | None, cpu_seconds: int | None) -> str:
    """The cause in words: ``reason``, if we know one, else what the kernel says."""
    if reason is not None:
        return reason
    if exit.signal == signal.SIGXCPU:
        return f"cpu_seconds: used up all of {cpu_seconds}" if cpu_seconds is not None else str(exit)
    return str(exit)


# How a traceback, a fatal error or a stack dump begins.
_BEGINNINGS = ("Traceback (most recent call last):", "Fatal Python error:", "Current thread 0x", "Thread 0x")


def last_traceback(lines: list[str]) -> str | None:
    """The last traceback or stack dump in stamped log lines, without the stamps; None if there is none.

    A dump of several threads is one: it begins with the first of the headings that follow one another.
    """
    texts = [line.partition(" ")[2] for line in lines]
    begins = [index for index, text in enumerate(texts) if text.startswith(_BEGINNINGS)]
    if not begins:
        return None
    begin = begins[-1]
    for index in reversed(begins[:-1]):
        between = texts[index + 1 : begin]
        if all(not text or text.startswith(("  ", *_BEGINNINGS)) for text in between):
            begin = index
    return "\n".join(texts[begin:]).rstrip() or None
