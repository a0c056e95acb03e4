"""Versions of mods as tables: the audience of each, and its figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from .figures import decimal, share, whole
from .tables import cell, state, table

_LEFT = ("ID", "VERSION", "STATE", "AUDIENCE")
_RIGHT = ("SHARE", "IN", "FAILED", "P50 ms", "P99 ms")


def versions_table(versions: Iterable[dict[str, Any]]) -> Table:
    """Return the table of ``modvisor audience``: a line per version of a family."""
    made = table()
    for name in _LEFT:
        made.add_column(name, no_wrap=name != "AUDIENCE")
    for name in _RIGHT:
        made.add_column(name, justify="right", no_wrap=True)
    for each in versions:
        made.add_row(
            cell(each["mod_id"]),
            cell(each["version"]),
            state(each["state"]),
            cell(each["reaches"]),
            cell(share(each["share"])),
            cell(whole(each["events_in"])),
            cell(whole(each["failed"])),
            cell(decimal(each["latency_p50_ms"])),
            cell(decimal(each["latency_p99_ms"])),
        )
    return made
