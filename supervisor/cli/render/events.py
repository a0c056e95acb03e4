"""Events as lines, each with its outcome."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from .figures import NOTHING, clock, decimal, whole
from .tables import pairs


def event_line(record: dict[str, Any]) -> str:
    """Return a line of ``modvisor events``: one finished event with its outcome."""
    event, response = record.get("event") or {}, record.get("response") or {}
    to = f" → {event['destination_id']}" if event.get("destination_id") else ""
    head = f"{clock(event.get('timestamp'))} {event.get('event_name')} {event.get('source_id') or NOTHING}{to}"
    return f"{head}  {outcome(response)}".replace("\n", " ")


def brief_line(record: dict[str, Any]) -> str:
    """Return a line about an event of which only names, times and the outcome are known."""
    to = f" → {record['to']}" if record.get("to") else ""
    head = f"{clock(record.get('at'))} {record.get('name')} {record.get('source') or NOTHING}{to}"
    by = f" by {record['by']}" if record.get("by") else ""
    taken = f" in {decimal(record['ms'])} ms" if record.get("ms") is not None else ""
    return f"{head}  {_brief_outcome(record)}{by}{taken}".replace("\n", " ")


def _brief_outcome(record: dict[str, Any]) -> str:
    if not record.get("success"):
        return str(record.get("error") or "failed")
    return "ok" if record.get("delivered") is None else f"delivered to {record['delivered']}"


def outcome(response: dict[str, Any]) -> str:
    """Return ``ok``, ``delivered to 3``, or the code and message of a failure."""
    data = response.get("data") if isinstance(response.get("data"), dict) else {}
    if response.get("success"):
        # Only the network's own answer has no other key; a mod's data may count deliveries, too.
        return f"delivered to {data['delivered']}" if data and data.keys() == {"delivered"} else "ok"
    code = data.get("error") if data else None
    return f"{code or 'failed'}: {response.get('message') or ''}".rstrip(": ")


def replay_table(summary: dict[str, Any]) -> Table:
    """Return the table of ``modvisor replay``: the outcomes of the events."""
    rows = [
        ("events", whole(summary["events"])),
        ("answered", whole(summary["answered"])),
        ("delivered", f"{summary['delivered']}, to {summary['deliveries']} agents"),
        *((f"failed: {code}", whole(count)) for code, count in summary["failed"].items()),
        ("malformed lines", whole(summary["malformed_count"])),
        ("seconds", decimal(summary["seconds"])),
        ("events/s", whole(round(summary["events_per_second"]))),
    ]
    return pairs(rows)
