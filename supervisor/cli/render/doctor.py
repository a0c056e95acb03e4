"""``modvisor doctor`` for people: the checks by sections, and the verdict at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..terminal.output import printable

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
WIDTH = 80  # columns that the page is made for; on a wider terminal lines are longer
MAX_NAME = 24  # columns

_LIMIT, _MOD, _MODS = "limit ", "mod ", "memory of all mods"


def checkup_parts(found: dict[str, Any]) -> Iterator[RenderableType]:
    """Yield the parts of the page for a document of `modvisor doctor`."""
    sections: dict[str, list[dict[str, Any]]] = {"host": [], "limits": [], "mods": []}
    for check in found["checks"]:
        sections[_section(check["name"])].append({**check, "name": _name(check["name"])})
    width = min(MAX_NAME, max(len(check["name"]) for checks in sections.values() for check in checks))
    yield _heading("This host")
    yield _table(sections["host"], width)
    yield _heading("Limits of mods, and what enforces each on this host")
    yield _table(sections["limits"], width)
    if found["file"] is not None:
        yield _heading(found["file"])
        yield _file(found, sections["mods"], width)
    counts = Counter(check["status"] for check in found["checks"]) + Counter(fail=len(found["problems"]))
    yield _heading(", ".join(f"{counts[status]} {status}" for status in STYLES))
    yield Text(printable(_verdict(found)))
    if found["file"] is None:
        yield Text("No network file was looked at; name one with: modvisor doctor FILE")


def _section(name: str) -> str:
    if name.startswith(_LIMIT):
        return "limits"
    return "mods" if name.startswith(_MOD) or name == _MODS else "host"


def _name(name: str) -> str:
    return name.removeprefix(_LIMIT).removeprefix(_MOD) if name != _MODS else "all mods"


def _heading(text: str) -> Text:
    return Text(f"\n{printable(text)}", "bold")


def _table(checks: Iterable[dict[str, Any]], width: int) -> Table:
    made = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    made.add_column(width=6)
    made.add_column(width=width, overflow="fold")
    made.add_column(overflow="fold")
    for check in checks:
        status = Text(f"  {check['status']}", STYLES[check["status"]])
        made.add_row(status, Text(printable(check["name"])), Text(printable(check["text"])))
        if check["remedy"]:
            made.add_row("", "", Text(f"→ {printable(check['remedy'])}", "bold"))
    return made


def _file(found: dict[str, Any], mods: list[dict[str, Any]], width: int) -> RenderableType:
    """Return the table of mods, or of the mistakes in the file: then nothing else of the file was checked."""
    if found["problems"]:
        rows = [
            {"status": "fail", "name": f"line {each['line']}" if each["line"] else "",
             "text": ": ".join(part for part in (each["key"], each["message"]) if part), "remedy": None}
            for each in found["problems"]
        ]  # fmt: skip
        return _table(rows, width)
    return _table(mods, width) if mods else Text("  no mistakes, and no mods to look at")


def _verdict(found: dict[str, Any]) -> str:
    count = len(found["problems"])
    if count:
        many = "1 mistake; mend it" if count == 1 else f"{count} mistakes; mend them"
        return f"{found['file']} has {many} and ask again."
    return _MEANING[found["status"]]


_MEANING = {
    "ok": "A network can run here, with all there is.",
    "warn": "A network can run here. What is marked warn could be better: → says how.",
    "fail": "What is marked fail keeps a network from running well: → says what to do.",
}
