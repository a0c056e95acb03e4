"""Suspects that are tried in a process of their own, beside the one that serves.

`Admission` has one `Beside`, and asks it three things: whether suspects wait for a trial process
(`is_on`), which queue the next suspect comes from (`next_line`), and who is in the trial (`trial`).
The keeper starts and ends the process: `want` tells it that a suspect has come, `changed` that one
has gone. Beside knows no process, only what is in flight there.

While `is_on`, suspects wait for the trial process and for nothing else, and no new event waits for
them. They take no slot of the process that serves: `concurrency` counts per process. As in that
process, only the suspects of one group are tried together (`blame`), so a death is blamed on it.
While not `is_on`, they are tried in the one process, as `Admission` says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, MutableMapping
from typing import Generic, TypeVar

from .in_flight import InFlight
from .journey import Journey

K = TypeVar("K")
Line = MutableMapping[asyncio.Future[InFlight], Journey]
"""Events by the future of their slot, in the order in which they are tried."""


def _ignore() -> None:
    """Nobody starts trial processes."""


class Beside(Generic[K]):
    """The trial process of a mod, as far as its events are concerned.

    Args:
        lines: where suspects wait, by kind, the first one first.

    Attributes:
        is_on: suspects wait for a trial process.
        in_flight: of the trial process; None: there is none.
        trial: the suspects that are in flight there, of one group.
        want: called when a suspect has come. It may set `is_on`.
        changed: set when a suspect has gone.
    """

    def __init__(self, lines: Iterable[tuple[K, Line]]) -> None:
        self.is_on = False
        self.in_flight: InFlight | None = None
        self.trial: set[Journey] = set()
        self.want: Callable[[], None] = _ignore
        self.changed = asyncio.Event()
        self._lines = tuple(lines)
        self._takes = False  # the process takes suspects

    @property
    def is_wanted(self) -> bool:
        """Whether a suspect waits for a trial process."""
        return self.is_on and any(line for _, line in self._lines)

    def open(self, in_flight: InFlight) -> None:
        """Try suspects in this process from now on."""
        self.in_flight, self._takes = in_flight, True

    def close(self) -> None:
        """Give the process no more suspects. It finishes those that it has."""
        self._takes = False

    def lost(self, in_flight: InFlight) -> bool:
        """Note that a process ended; returns whether it was the trial process."""
        if in_flight is not self.in_flight:
            return False
        self.in_flight, self._takes = None, False
        return True

    def next_line(self, at_once: int) -> K | None:
        """Return the kind of the suspect that is tried next, the first of its line.

        None: none waits, the process takes none, or has ``at_once`` already.
        """
        if not self.is_on or not self._takes or len(self.trial) >= at_once:
            return None
        kind, first = next(((kind, next(iter(line.values()))) for kind, line in self._lines if line), (None, None))
        if first is not None and self.trial and _group_of(first) is not _group_of(next(iter(self.trial))):
            return None
        return kind

    def take(self, journey: Journey) -> InFlight:
        """Note that a suspect is tried; returns where."""
        assert self.in_flight is not None
        self.trial.add(journey)
        return self.in_flight

    def leave(self, journey: Journey) -> bool:
        """Note that a suspect has gone; returns whether it was tried here."""
        self.changed.set()
        if journey not in self.trial:
            return False
        self.trial.remove(journey)
        return True


def _group_of(journey: Journey) -> object:
    """Return what the suspects have in common that are tried together; each event without has its own."""
    return journey if journey.deaths is None else journey.deaths.group
