"""Crash reports as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .figures import NOTHING, clock, decimal, duration, size, whole


def crash_text(report: dict[str, Any]) -> str:
    """Return ``modvisor crashes`` for one report: when, what, why, the events in flight, and the last words."""
    version = report["version"] or NOTHING
    lines = [
        f"{clock(report['at'], date=True)} {_where(report)}{report['mod_id']} {version}: {why(report)}",
        f"  incarnation {report['incarnation']}, pid {report['pid'] or NOTHING}, after {duration(report['uptime'])}",
    ]
    lines += [f"  {line}" for line in _used(report)]
    if report["in_flight_count"]:
        names = ", ".join(map(_in_flight, report["in_flight"][:5]))
        more = report["in_flight_count"] - len(report["in_flight"][:5])
        lines.append(f"  was handling {names}" + (f" and {more} more" if more else ""))
        if report.get("alone"):
            lines.append("  which was under suspicion and handled alone: the event is to blame, not the mod")
    if report.get("trial"):
        lines.append("  it was a trial process, beside the one that serves, which went on")
    words = report["traceback"] or "\n".join(report["log"][-5:])
    lines += [f"    {line}" for line in words.splitlines()]
    return "\n".join(lines)


def _where(report: dict[str, Any]) -> str:
    return f"{report['node']}: " if report.get("node") else ""


def _in_flight(event: dict[str, Any]) -> str:
    attempt = f" (attempt {event['attempt']})" if event.get("attempt", 1) > 1 else ""
    return f"{event['event_name']} from {event['source_id'] or NOTHING}{attempt}"


def _used(report: dict[str, Any]) -> Iterator[str]:
    """Yield what the process used over its life (from the kernel), and what it held at the last sample."""
    usage, sample = report.get("usage"), report.get("resources")
    if usage:
        yield f"used {decimal(usage['cpu_seconds'])} s of processor, at most {size(usage['max_rss'])} resident"
    if sample:
        counts = {"threads": "threads", "open_files": "open files", "children": "children"}
        held = ", ".join(f"{name} {whole(sample[key])}" for key, name in counts.items())
        yield f"last sample: RSS {size(sample['rss'])}, {held}"


def why(report: dict[str, Any]) -> str:
    cause, detail = report["cause"].replace("_", " "), report["detail"]
    return detail if detail.startswith(cause) else f"{cause}: {detail}"
