"""Who is to blame for the death of a worker, and what that means for each event. Pure.

- The worker's mark (`ipc.mark`) names the events whose handlers ran at the end. If it names exactly
  one, that event is *guilty*: it is charged, and tried again alone, after all others.
- A handler that called for the end itself (os._exit, os.kill) is guilty, whatever else ran.
- If it names several, or nobody, the events in question are *suspects*. They are tried again in two
  halves, one half at a time. A half that dies is halved again, and goes after all others.
- Whoever dies alone in such a trial is guilty, if the process ended by itself. Of a worker that
  makes no mark, an event that was alone is guilty at once.
- The others are innocent: they are handled again at once, all together.

The end of a process by a signal from outside says nothing about its events, so nobody is charged,
and all of them are suspects. The same holds for a kill for memory: whoever runs when the memory is
gone need not be who took it. If an event runs alone each time that this happens, it is given up all
the same (`UNPROVEN`).

A trial that the network cut short (a reload, an unload) changes nothing: the suspects stay suspects.

How often an event was handled (`attempt`) is for the handler to see. Only charges count.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from ...ipc.mark import Marks
from ..process import Cause, CrashReport
from .deaths import Deaths
from .journey import Journey


class End(Enum):
    """What kind of end a process had."""

    OWN = auto()  # by itself: an exit, a fault, a blocked loop, a broken protocol
    LIMIT = auto()  # over a limit, of memory for one
    OUTSIDE = auto()  # by a signal from outside, or nobody knows how
    ASKED = auto()  # the network ended it, for reasons of its own


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who is to blame for one death.

    Attributes:
        guilty: the event that is to blame.
        unproven: the event that may be to blame.
        groups: the suspects, as they are tried together.
        named: the events whose handlers ran.
        in_trial: suspects were being tried.
        is_of_mod: the death counts against the mod: no trial of events explains it.
    """

    guilty: Journey | None = None
    unproven: Journey | None = None
    groups: tuple[tuple[Journey, ...], ...] = ()
    named: tuple[Journey, ...] = ()
    in_trial: bool = False
    is_of_mod: bool = True

    def applied_to(self, journey: Journey) -> Deaths:
        """Note in the event what the verdict says of it."""
        if journey.deaths is None:
            journey.deaths = Deaths()
        deaths = journey.deaths
        deaths.charges += journey is self.guilty
        deaths.unproven += journey is self.unproven
        group = next((group for group in self.groups if journey in group), None)
        deaths.is_suspect = group is not None or journey is self.guilty
        deaths.is_last = deaths.is_suspect and (self.in_trial or journey is self.guilty)
        deaths.group = group or deaths
        return deaths


def end_of(report: CrashReport | None) -> End:
    """Return what kind of end a crash report tells of. None: the network ended the process."""
    if report is None:
        return End.ASKED
    if report.cause is Cause.OUT_OF_MEMORY:
        return End.LIMIT
    if report.cause is Cause.LIMIT_HIT:  # of CPU time, whoever runs takes it
        return End.OWN if report.detail.startswith("cpu_seconds") else End.LIMIT
    if report.cause is Cause.SIGNAL and not report.detail.endswith(_OWN_SIGNALS):
        return End.OUTSIDE
    return End.OUTSIDE if report.cause in (Cause.START_FAILURE, Cause.LEASE_LOST) else End.OWN


_OWN_SIGNALS = tuple(
    f" {signal.Signals(number).name}"
    for number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP,
                   signal.SIGSYS, signal.SIGXCPU, signal.SIGXFSZ)
)  # fmt: skip
"""The ends of reports that tell of signals which a process brings upon itself."""


def judge(
    dead: Sequence[tuple[int, Journey]],
    marks: Marks | None,
    report: CrashReport | None,
    *,
    tried: Sequence[Journey] = (),
) -> Verdict:
    """Return who is to blame for the end of an incarnation.

    What an event causes at the same mod dies with it, and is not tried again: the event itself is
    to blame for it.

    Args:
        dead: the events in flight at its end, by request id, in the order in which they were sent.
        marks: what its mark said; None: it makes none.
        tried: those of them that are suspects on trial.
    """
    end, by_id = end_of(report), dict(dead)
    if end is End.ASKED or not dead:  # a trial that the network cut short has shown nothing
        return Verdict(groups=(tuple(tried),), in_trial=True) if tried else Verdict()
    in_trial, makes_none, marks = bool(tried), marks is None, marks or Marks()
    first = {journey: _first_cause(journey, set(by_id.values())) for journey in by_id.values()}
    events = list(tried) or list(dict.fromkeys(first.values()))
    named = tuple(by_id[request] for request in _running(marks, report) if request in by_id)
    if marks.caught in by_id:
        named = (by_id[marks.caught],)
    elif end is End.OUTSIDE or (end is End.LIMIT and len(events) > 1):
        ran_alone = events[0] if len(events) == 1 and events[0] in map(first.get, named) else None
        explains = in_trial and (len(events) > 1 or ran_alone is not None)
        return Verdict(None, ran_alone, halves(events), named, in_trial, is_of_mod=not explains)
    elif not named and marks.loop is not None:
        return Verdict()  # something ran that belongs to none of these events
    culprits = list(dict.fromkeys(first[journey] for journey in named))
    if not culprits and len(events) == 1 and (in_trial or makes_none):
        culprits = events
    explains = in_trial and (not culprits or not set(culprits).isdisjoint(events))
    if explains:
        culprits = [journey for journey in culprits if journey in events]
    if len(culprits) == 1:
        return Verdict(culprits[0], named=named, in_trial=in_trial, is_of_mod=not explains)
    return Verdict(None, None, halves(culprits or events), named, in_trial, is_of_mod=not explains)


def _first_cause(journey: Journey, dead: set[Journey]) -> Journey:
    """Return the event at the beginning of a chain of causes, as far as it is among ``dead``."""
    first, ancestor = journey, journey.parent
    while ancestor is not None:
        if ancestor in dead:
            first = ancestor
        ancestor = ancestor.parent
    return first


def halves(suspects: Sequence[Journey]) -> tuple[tuple[Journey, ...], ...]:
    """Return the suspects in two halves; one suspect alone."""
    middle = (len(suspects) + 1) // 2
    return tuple(half for half in (tuple(suspects[:middle]), tuple(suspects[middle:])) if half)


_FAULTING = re.compile(r"^Current thread 0x([0-9a-f]+) \(most recent call first\)", re.MULTILINE)


def _running(marks: Marks, report: CrashReport | None) -> list[int]:
    """Return the requests whose handlers ran, in order; only one if the fault's thread is known."""
    loop = [] if marks.loop is None else [marks.loop]
    if report is not None and report.cause is Cause.HANG:
        return loop
    fault = _FAULTING.search(report.traceback or "") if report is not None and report.cause is Cause.SIGNAL else None
    if fault is not None and (ident := int(fault[1], 16)) in marks.threads:
        return [marks.threads[ident]]
    if fault is not None and loop:
        return loop
    return sorted({*loop, *marks.threads.values()})
