"""Crash reports: why an incarnation of a mod ended, with everything that helps to find the cause.

There is one report for each end that nobody asked for.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from .process import Exit

KEPT = 20  # reports per mod, enough to show a pattern
REPORTED_LINES = 50
REPORTED_EVENTS = 100  # events listed in a report; it counts all of them


class Cause(StrEnum):
    """The causes of an end."""

    EXITED = "exited"  # by itself, with an exit code
    SIGNAL = "signal"  # by a signal that the network did not send
    OUT_OF_MEMORY = "out_of_memory"  # killed by the kernel for memory
    HANG = "hang"  # its event loop was blocked; the network killed it
    STOPPED = "stopped"  # a signal or a debugger had stopped it, so it did not answer; the network killed it
    PROTOCOL_VIOLATION = "protocol_violation"  # it broke the rules of the pipe; the network killed it
    LIMIT_HIT = "limit_hit"  # over a limit; killed by the network, or by the kernel (SIGXCPU: cpu_seconds)
    START_FAILURE = "start_failure"  # it failed to start
    LEASE_LOST = "lease_lost"  # the lease of its node ended, under which alone an exclusive mod runs


@dataclass(frozen=True, slots=True)
class CrashReport:
    """One end of an incarnation.

    Attributes:
        at: Unix seconds, for people.
        uptime: seconds from launch to end.
        detail: the cause in words: the exit code, the signal's name, what was blocked, which limit.
        traceback: the stacks of all threads at the end, if there is a dump of them; else the last
            Python traceback in the log; else None.
        log: the last lines that it wrote.
        in_flight: the first `REPORTED_EVENTS` events that it was handling, each with event_id,
            event_name, source_id and attempt.
        in_flight_count: how many events it was handling.
        running: the events of ``in_flight`` whose handlers ran at the end, as far as the worker marks
            that; the others waited for something.
        alone: it was handling suspected events, and nothing else, so they are to blame, not the mod.
        trial: it was a trial process, beside the one that serves: that one went on, and the end does
            not count against the mod.
        resources: the newest sample before the end; None if it ended before the first sample.
        usage: what the kernel counted over its whole life: cpu_seconds, max_rss (bytes); None if
            unknown.
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
    trial: bool = False
    resources: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    running: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for the edge: logs, HTTP, the journal."""
        return asdict(self)

    def masked(self, mask: Callable[[str], str]) -> CrashReport:
        """Return the report without secrets in its texts. Its log lines were masked as they came."""
        traceback = None if self.traceback is None else mask(self.traceback)
        return replace(self, traceback=traceback, detail=mask(self.detail))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CrashReport | None:
        """Return the report of `to_dict`, or None if the data is of another shape."""
        wanted = {each.name for each in fields(cls)}
        try:
            report = cls(**{name: value for name, value in data.items() if name in wanted})
            sound = all(isinstance(getattr(report, name), kind) for name, kind in _KINDS.items())
            return replace(report, cause=Cause(report.cause)) if sound else None
        except (TypeError, ValueError):
            return None


_KINDS = {
    "mod_id": str, "version": str | None, "incarnation": int, "pid": int | None, "at": int | float, "uptime": int | float,
    "detail": str, "traceback": str | None, "log": list, "in_flight": list, "in_flight_count": int,
    "resources": dict | None, "usage": dict | None,
}  # fmt: skip


class CrashLog:
    """The newest reports of one mod, oldest first."""

    def __init__(self) -> None:
        self._reports: list[CrashReport] = []
        self.total = 0

    def add(self, report: CrashReport) -> None:
        self._reports = [*self._reports, report][-KEPT:]
        self.total += 1

    def recall(self, reports: Iterable[CrashReport]) -> None:
        """Put the reports of the previous run before all others. They are not counted."""
        self._reports = [*reports, *self._reports][-KEPT:]

    def __iter__(self):
        return iter(self._reports)

    @property
    def last(self) -> CrashReport | None:
        return self._reports[-1] if self._reports else None


def crash_cause(exit: Exit, cause: Cause | None) -> Cause:
    """Return the cause of an end: ``cause`` if the network ended it, else what the kernel says."""
    if cause is not None:
        return cause
    if exit.signal == signal.SIGXCPU:
        return Cause.LIMIT_HIT
    return Cause.SIGNAL if exit.signal is not None else Cause.EXITED


def crash_detail(exit: Exit, reason: str | None, cpu_seconds: int | None) -> str:
    """Return the cause in words: ``reason`` if there is one, else what the kernel says."""
    if reason is not None:
        return reason
    if exit.signal == signal.SIGXCPU:
        return f"cpu_seconds: used up all of {cpu_seconds}" if cpu_seconds is not None else str(exit)
    return str(exit)


_FRAME = re.compile(r'^  File "([^"<]+)", line (\d+) in (\S+)$', re.MULTILINE)
_OURS = str(Path(__file__).parents[2]) + os.sep
_LIBRARIES = ("/lib/python", "/site-packages/")


def where_it_was(stacks: str) -> str:
    """Return, for the end of a sentence, where in the mod's own code a process was; "" if no thread was there."""
    for file, line, function in _FRAME.findall(stacks):
        if not file.startswith(_OURS) and not any(each in file for each in _LIBRARIES):
            return f"; it was at {file}:{line} in {function}"
    return ""


# The first words of a traceback, a fatal error and a stack dump.
_BEGINNINGS = ("Traceback (most recent call last):", "Fatal Python error:", "Current thread 0x", "Thread 0x")


def last_traceback(lines: list[str]) -> str | None:
    """Return the last traceback or stack dump in stamped log lines, without the stamps, or None.

    A dump of several threads counts as one: it begins with the first of its headings.
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
