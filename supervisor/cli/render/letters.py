"""Dead letters as tables and lines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from ..terminal.output import printable
from .crashes import crash_text
from .figures import clock
from .tables import cell, json_text, pairs, table


def heads_table(heads: Iterable[dict[str, Any]]) -> Table:
    """Return the table of ``modvisor dlq ls``: a line per letter."""
    made = table()
    made.add_column("ID", justify="right", no_wrap=True)
    for name in ("GIVEN UP", "MOD", "EVENT", "FROM"):
        made.add_column(name, no_wrap=True)
    made.add_column("ATTEMPTS", justify="right", no_wrap=True)
    made.add_column("WHY", overflow="fold")
    for head in heads:
        event = head["event"]
        made.add_row(*map(cell, (
            head["letter_id"], clock(head["at"], date=True), head["mod_id"], event["event_name"], event["source_id"],
            head["attempts"], _why(head),
        )))  # fmt: skip
    return made


def letter_parts(letter: dict[str, Any]) -> list[RenderableType]:
    """Return the parts of ``modvisor dlq show``: the letter, its event, and how the mod died of it."""
    event, report = letter["event"], letter["report"]
    rows = [
        ("dead letter", f"{letter['letter_id']} of mod {letter['mod_id']}"),
        ("given up", f"{clock(letter['at'], date=True)}, after {_attempts(letter['attempts'])}"),
        ("why", _why(letter)),
        ("event", f"{event['event_name']} ({event['event_id']})"),
        ("sent", f"{clock(event.get('timestamp'), date=True)} by {event.get('source_id')}"),
        *((label, str(event[key])) for label, key in (("to", "destination_id"), ("via", "via")) if event.get(key)),
    ]
    parts: list[RenderableType] = [pairs(rows), *_content("payload", event.get("payload") or {})]
    if event.get("metadata"):
        parts += _content("metadata", event["metadata"])
    parts += ["", "the crash" if report else "no crash report was kept"]
    return [*parts, printable(crash_text(report))] if report else parts


def _content(name: str, value: dict[str, Any]) -> list[RenderableType]:
    return ["", name, json_text(value)]


def _why(letter: dict[str, Any]) -> str:
    return str(letter["reason"]).removeprefix(f"mod {letter['mod_id']} ended while handling the event: ")


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count} attempts"
