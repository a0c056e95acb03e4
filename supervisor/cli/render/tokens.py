"""Operators' tokens as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from .figures import clock
from .tables import cell, table


def tokens_table(tokens: Iterable[dict[str, Any]]) -> Table:
    """Return the table of ``modvisor token list``: a line per token."""
    made = table()
    for name in ("NAME", "SCOPE", "EXPIRES", "MADE", "BY"):
        made.add_column(name, no_wrap=True)
    for each in tokens:
        expires = "never" if each["expires_at"] is None else clock(each["expires_at"], date=True)
        if each["expired"]:
            expires += " (expired)"
        made.add_row(
            *map(
                cell, (each["name"], scope_of(each), expires, clock(each["created_at"], date=True), each["created_by"])
            )
        )
    return made


def scope_of(token: dict[str, Any]) -> str:
    """Return what a token may do, as people read it: ``read, read_payloads``."""
    return f"{token['scope']}, read_payloads" if token.get("payloads") and token["scope"] != "admin" else token["scope"]
