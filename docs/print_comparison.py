"""Print the figures of docs/comparison.md, which are those of docs/figures.md: ``make docs``."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).with_name("comparison.md")
FIGURES = Path(__file__).with_name("figures.md")
_MARKED = re.compile(r"(<!-- figures: printed by make docs -->\n)(.*?)(<!-- end -->)", re.DOTALL)
COLUMNS = ("modvisor", "OpenAgents, in-process", "mp.Pipe", "ProcessPool")
ROWS = {
    "round trip, one at a time, p50": "one event at a time, half of them within",
    "64 in flight": "64 events in flight",
    "all the way through two matching mods, 64 in flight": "the same, through two mods",
    "over HTTP, 64 agents with kept connections": "over HTTP, 64 agents",
    "durable, 64 in flight": "durable, 64 events in flight",
    "load to first answer: bundled wiki, loaded before": "load a mod, to its first answer",
    "kill -9 to first answer, without the backoff": "`kill -9` of a mod, to its next answer",
    "own memory (USS) of an idle worker": "own memory of an idle worker",
}
"""The label of each row that is taken over, and what it is called in the comparison."""


def printed() -> str:
    """Return the page with its figures printed anew."""
    return _MARKED.sub(lambda found: found[1] + _table() + found[3], PAGE.read_text("utf-8"))


def _table() -> str:
    lines = [_cells(line) for line in FIGURES.read_text("utf-8").splitlines() if line.startswith("|")]
    head, found = lines[0], {cells[0]: cells for cells in lines}
    rows = [("measured", *COLUMNS), ("---",) * (len(COLUMNS) + 1)]
    rows += [(name, *_figures(head, found[label])) for label, name in ROWS.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _figures(head: list[str], cells: list[str]) -> list[str]:
    """Return the median of each column, with its unit; '–' where nothing was measured."""
    medians = [cells[head.index(column)].split(" (")[0].split("<br>")[0] for column in COLUMNS]
    return [median if median in ("", "–") else f"{median} {cells[1]}" for median in medians]


if __name__ == "__main__":
    text = printed()
    if PAGE.read_text("utf-8") != text:
        PAGE.write_text(text, "utf-8")
