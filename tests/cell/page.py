"""``python -m tests.cell.page``: print the table of attacks into docs/security.md (``make docs``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .table import DEFAULT, OFF, OPEN, PROFILES, ROOT, SECTIONS, STOPPED, STRICT, TABLE, UNSURE, USER, Row

PAGE = Path(__file__).parents[2] / "docs/security.md"

_MARKED = re.compile(r"(<!-- ([a-z ]+): printed by make docs -->\n)(.*?)(<!-- end -->)", re.DOTALL)
_SHOWN = {OPEN: "**open**", STOPPED: "–", UNSURE: "some hosts"}


def printed(page: str) -> str:
    """Return the page with its tables printed anew."""
    return _MARKED.sub(lambda found: found[1] + BLOCKS[found[2]]() + found[4], page)


def _table() -> str:
    lines = []
    for title, rows in SECTIONS.items():
        lines += [f"| {title} | `{OFF}` | `{DEFAULT}` | `{STRICT}` |", "|---|---|---|---|"]
        lines += [
            f"| {row.what} | " + " | ".join(_shown(row, profile) for profile in PROFILES) + " |"
            for row in rows.values()
        ]
        lines.append("")
    return "\n".join(lines)


def _shown(row: Row, profile: str) -> str:
    as_root, as_user = (row.cells[profile, user] for user in (ROOT, USER))
    if as_root == as_user:
        return _SHOWN[as_root]
    shown = [f"{_SHOWN[cell]} as {user}" for cell, user in ((as_root, "root"), (as_user, "a user")) if cell != STOPPED]
    return ", ".join(shown)


def _left_open(profile: str) -> Callable[[], str]:
    def lines() -> str:
        left = [
            f"- {row.what}: {_shown(row, profile)}" for row in TABLE.values() if _shown(row, profile) != _SHOWN[STOPPED]
        ]
        return "\n".join(left or ["- nothing of the table"]) + "\n"

    return lines


BLOCKS: dict[str, Callable[[], str]] = {
    "the table": _table,
    "left open by default": _left_open(DEFAULT),
    "left open by strict": _left_open(STRICT),
}
"""What the page's markers stand for."""


if __name__ == "__main__":
    text = PAGE.read_text("utf-8")
    if (page := printed(text)) != text:
        PAGE.write_text(page, "utf-8")
