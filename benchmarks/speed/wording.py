"""Figures in words, the same in the table and on the page. Pure."""

from __future__ import annotations

from .rows import short
from .verdict import MISSED, Line, Spread


def number(value: float) -> str:
    """Three digits or so."""
    size = abs(value)
    if size < 0.1:
        return f"{value:.2g}" if size > 1e-4 else "0"
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def spread(found: Spread | None) -> tuple[str, str]:
    """The median, and from where to where; nothing for what was measured once."""
    if found is None:
        return "–", ""
    if found.low == found.high:
        return number(found.median), ""
    return number(found.median), f"{number(found.low)} to {number(found.high)}"


def ratio(line: Line) -> str:
    if line.ratio is None or line.row.reference is None:
        return "–"
    return f"{number(line.ratio.median)} × {short(line.row.reference)}"


def goal(line: Line) -> tuple[str, str]:
    """The goal and whether it is met."""
    if line.row.goal is None:
        return "", ""
    return str(line.row.goal), line.verdict.upper() if line.verdict == MISSED else str(line.verdict)
