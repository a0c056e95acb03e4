"""In which order the mods stand, and which of them are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..client.live import Row
from .columns import is_high

TROUBLE = "trouble"

_BAD = {"quarantined": 0, "failed": 0, "probing": 1, "backoff": 1, "restarting": 1, "ending": 2}
_WELL = 9


def trouble(row: Row) -> int:
    """Return how much is wrong with a mod: 0 the most, 9 nothing."""
    found = _BAD.get(str(row.get("state")), _WELL)
    is_over = is_high(row.get("rss"), row.get("memory_limit")) or is_high(row.get("cpu"), row.get("cpu_limit"))
    return min(found, 3) if is_over else found


def _most(key: str) -> Callable[[Row], Any]:
    """Sort by a figure, the largest first; mods without it stand last."""

    def figure(row: Row) -> float:
        value = row.get(key)
        return 1.0 if value is None else -value

    return figure


ORDERS: dict[str, Callable[[Row], Any]] = {
    TROUBLE: trouble,
    "name": lambda row: str(row.get("id")),
    "cpu": _most("cpu"),
    "memory": _most("rss"),
    "rate": _most("rate"),
    "latency": _most("p99"),
    "busy": _most("in_flight"),
    "waiting": _most("queue"),
    "failed": _most("failed"),
    "restarts": _most("restarts"),
}
"""By name, the key of each order. Mods that are equal keep the order in which they were loaded."""


def arranged(rows: Iterable[Row], order: str = TROUBLE, *, backwards: bool = False, only: str = "") -> list[Row]:
    """Return the rows to show.

    Args:
        only: words that a mod's id, path, state, version, audience or node must contain.
    """
    words = only.lower().split()
    shown = [row for row in rows if all(word in _text(row) for word in words)] if words else list(rows)
    return sorted(shown, key=ORDERS[order], reverse=backwards)


def _text(row: Row) -> str:
    parts = (row.get(key) for key in ("id", "path", "state", "version", "audience", "node"))
    return " ".join(str(part) for part in parts if part).lower()
