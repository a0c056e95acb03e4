"""Single values in words: how a size, a duration or a state is shown. Without rich, whose import takes 20 ms."""

from __future__ import annotations

import time

NOTHING = "-"
STATE_STYLES = {"ready": "green", "failed": "red", "quarantined": "red", "stopped": "dim"}
PASSING_STYLE = "yellow"  # starting, draining, backing off, restarting


def state_style(value: object) -> str:
    return STATE_STYLES.get(str(value), PASSING_STYLE)


def label(name: str) -> str:
    return name.replace("_", " ")


def whole(value: int | None) -> str:
    return NOTHING if value is None else str(value)


def decimal(value: float | None) -> str:
    """Format with three significant digits: 0.046, 4.6, 460."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f} %"


def share(value: float | None) -> str:
    """Format a share of the events of all versions of a mod."""
    return NOTHING if value is None else f"{value * 100:.1f} %"


def size(value: float | None) -> str:
    """Format bytes in units of 1000, as ``limits.memory`` reads them."""
    if value is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float | None) -> str:
    """Format seconds in their two largest units: 8.0s, 3m 05s, 2h 14m, 5d 03h."""
    if seconds is None:
        return NOTHING
    whole_seconds = int(seconds)
    minutes, hours, days = whole_seconds // 60, whole_seconds // 3600, whole_seconds // 86400
    if days:
        return f"{days}d {hours % 24:02}h"
    if hours:
        return f"{hours}h {minutes % 60:02}m"
    if minutes:
        return f"{minutes}m {whole_seconds % 60:02}s"
    return f"{seconds:.1f}s" if seconds < 10 else f"{whole_seconds}s"


def clock(timestamp: float | None, *, date: bool = False) -> str:
    if timestamp is None:
        return NOTHING
    return time.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S", time.localtime(timestamp))
