"""Invites as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from .figures import clock
from .tables import cell, table


def invites_table(invites: Iterable[dict[str, Any]]) -> Table:
    """Return the table of ``modvisor invite list``: a line per invite."""
    made = table()
    for name in ("ID", "GROUP", "AGENT"):
        made.add_column(name, no_wrap=True)
    made.add_column("USES", justify="right", no_wrap=True)
    for name in ("EXPIRES", "MADE", "BY"):
        made.add_column(name, no_wrap=True)
    for each in invites:
        made.add_row(*map(cell, (
            each["invite_id"], each["agent_group"] or "-", each["agent"] or "any", each["uses"],
            clock(each["expires_at"], date=True), clock(each["created_at"], date=True), each["created_by"],
        )))  # fmt: skip
    return made
