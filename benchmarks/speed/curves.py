"""Curves of growth: what was measured at each point, in one pass or several. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Curve:
    """Figures over ``points`` (how many mods, agents, …).

    Attributes:
        passes: of each figure, its values at the points, once per pass.
        note: what is to be known of it, such as that its last point was not reached.
    """

    key: str
    label: str
    points: tuple[int, ...]
    passes: dict[str, list[list[float]]] = field(default_factory=dict)
    note: str = ""

    def add(self, found: Sequence[dict[str, float]]) -> None:
        """One pass: the figures of each point, in order. Raises ValueError if there are more or fewer."""
        if len(found) != len(self.points):
            raise ValueError(f"curve {self.key}: {len(found)} figures for {len(self.points)} points")
        for name in found[0]:
            self.passes.setdefault(name, []).append([point[name] for point in found])

    def middle(self, name: str) -> list[float]:
        """The median of the passes at each point."""
        return [statistics.median(values) for values in zip(*self.passes[name], strict=True)]

    def growth(self, name: str) -> float:
        """By how many percent the figure has grown where it has most: over the first point of its pass, or where a fresh
        network was measured beside each point (``fresh_…``), over that."""
        return 100 * (max(statistics.median(ratios) for ratios in zip(*self._ratios(name), strict=True)) - 1)

    def _ratios(self, name: str) -> list[list[float]]:
        fresh = self.passes.get(f"fresh_{name}")
        if fresh is not None:
            pairs = zip(self.passes[name], fresh, strict=True)
            return [[old / new for old, new in zip(*pair, strict=True)] for pair in pairs]
        return [[value / values[0] for value in values] for values in self.passes[name]]
