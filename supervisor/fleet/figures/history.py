"""What each mod has used of late: processor time and memory, one point every few seconds, for sparklines.

The points of a mod lie in two arrays of floats, 480 bytes together. All mods get their points at the
same moments, so one position serves for all.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

POINTS = 60
EVERY = 5.0
"""Seconds between two points. No keys of the network file: a page draws five minutes, and 1,000 mods take 0.5 MB."""

_NONE = math.nan


def _empty() -> array[float]:
    return array("f", [_NONE] * POINTS)


@dataclass(slots=True)
class Points:
    """The points of one mod, in rings."""

    cpu: array[float] = field(default_factory=_empty)
    rss: array[float] = field(default_factory=_empty)


class History:
    """The points of all mods.

    Attributes:
        number: how many points were taken so far.
    """

    def __init__(self) -> None:
        self.number = 0
        self._points: dict[str, Points] = {}

    def take(self, used: Iterable[tuple[str, float | None, int | None]]) -> None:
        """Take a point of each mod: its id, processor time in per cent, memory in bytes. Others are forgotten."""
        at, former = self.number % POINTS, self._points
        self._points = {}
        for mod_id, cpu, rss in used:
            points = former.get(mod_id) or Points()
            points.cpu[at] = _NONE if cpu is None else cpu
            points.rss[at] = _NONE if rss is None else rss
            self._points[mod_id] = points
        self.number += 1

    def of(self, mod_id: str) -> tuple[list[float | None], list[int | None]]:
        """Return the points of a mod, oldest first: processor time in per cent, memory in bytes.

        None stands where there was no process. A mod that is younger has fewer points.
        """
        points = self._points.get(mod_id)
        if points is None:
            return [], []
        cpu = [None if value != value else round(value, 1) for value in self._in_order(points.cpu)]
        rss = [None if value != value else int(value) for value in self._in_order(points.rss)]
        first = next(
            (i for i, (a, b) in enumerate(zip(cpu, rss, strict=True)) if a is not None or b is not None), POINTS
        )
        return cpu[first:], rss[first:]

    def _in_order(self, ring: array[float]) -> array[float]:
        at = self.number % POINTS
        return ring[at:] + ring[:at]
