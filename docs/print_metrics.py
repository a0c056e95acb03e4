"""Print the table of metrics into docs/metrics.md: ``make docs``."""

from __future__ import annotations

import re
from pathlib import Path

from modvisor.supervisor.metrics import FAMILIES, Family

PAGE = Path(__file__).with_name("metrics.md")
_MARKED = re.compile(r"(<!-- metrics: printed by make docs -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def printed(page: str) -> str:
    """Return the page with its table printed anew."""
    return _MARKED.sub(lambda found: found[1] + _table() + found[3], page)


def _table() -> str:
    rows = [("metric", "type", "labels", "meaning"), ("---",) * 4, *map(_row, FAMILIES)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(family: Family) -> tuple[str, ...]:
    suffix = {"counter": "_total", "info": "_info"}.get(family.kind, "")
    labels = ("version", "network", "network_id") if family.kind == "info" else family.labels
    return f"`{family.name}{suffix}`", family.kind, ", ".join(f"`{label}`" for label in labels), family.doc


if __name__ == "__main__":
    text = PAGE.read_text("utf-8")
    if (page := printed(text)) != text:
        PAGE.write_text(page, "utf-8")
