"""Answers of the admin API as tables and lines for people. Data in, text out; nothing here prints."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from .output import printable

NOTHING = "-"
STATE_STYLES = {"ready": "green", "failed": "red", "quarantined": "red", "stopped": "dim"}
_SIZES = frozenset({"memory", "memory_soft", "disk"})  # limits in bytes
PASSING_STYLE = "yellow"  # starting, draining, backing off, restarting

_LEFT = ("ID", "VERSION", "STATE")
_RIGHT = ("PID", "UP", "CPU", "RSS", "USS", "IN", "FAILED", "P50 ms", "P99 ms", "RESTARTS")


def mods_table(mods: Iterable[dict[str, Any]]) -> Table:
    """``modvisor ps``: a line per mod, the versions of one below each other, with who has which."""
    rows = _by_family(mods)
    are_divided = any(mod.get("reaches", "everyone") != "everyone" for mod in rows)
    made = table()
    for name in _LEFT:
        made.add_column(name, no_wrap=True)
    for name in (*_RIGHT, "SHARE") if are_divided else _RIGHT:
        made.add_column(name, justify="right", no_wrap=True)
    if are_divided:
        made.add_column("AUDIENCE", overflow="fold")
    for mod in rows:
        more = [cell(share(mod.get("share"))), cell(mod.get("reaches"))] if are_divided else []
        made.add_row(*_mod_cells(mod), *more)
        for worker in mod.get("workers", ()):
            made.add_row(*_mod_cells(worker))
    return made


def _by_family(mods: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """In load order, but the versions of a mod together, where the first of them stands."""
    families: dict[Any, list[dict[str, Any]]] = {}
    for mod in mods:
        families.setdefault(mod.get("family") or mod.get("mod_id"), []).append(mod)
    return [mod for versions in families.values() for mod in versions]


def _mod_cells(mod: dict[str, Any]) -> list[Text]:
    resources, traffic = mod.get("resources") or {}, mod.get("traffic") or {}
    plain = [
        whole(mod.get("pid")),
        duration(mod.get("uptime")),
        percent(resources.get("cpu_percent")),
        size(resources.get("rss")),
        size(resources.get("uss")),
        whole(traffic.get("events_in")),
        whole(traffic.get("failed")),
        decimal(traffic.get("latency_p50_ms")),
        decimal(traffic.get("latency_p99_ms")),
        whole(mod.get("restarts")),
    ]
    names = [cell(mod.get("mod_id")), cell(mod.get("version")), state(mod.get("state"))]
    return [*names, *map(cell, plain)]


def available_table(mods: Iterable[dict[str, Any]]) -> Table:
    """``modvisor mods``: a line per mod that could be loaded."""
    made = table()
    for name in ("NAME", "VERSIONS", "FROM", "LOADED", "PATH", "REQUIRES", "DESCRIPTION"):
        made.add_column(name, no_wrap=name != "DESCRIPTION")
    for mod in mods:
        versions = ", ".join(version or "?" for version in mod["versions"])
        requires = [*mod["requires"], *(f"({name})" for name in mod["optional"])]
        lists = [", ".join(words) or NOTHING for words in (mod["loaded"], [mod["mod_path"]], requires)]
        plain = [versions or NOTHING, mod["source"], *lists, mod["description"] or NOTHING]
        made.add_row(cell(mod["name"], "red" if mod["error"] else ""), *map(cell, plain))
    return made


def troubles(mods: Iterable[dict[str, Any]]) -> list[str]:
    """Why each mod that is down is down, and how one in quarantine comes back."""
    return [
        f"{mod['mod_id']} is {mod['state']}: {trouble(mod)}" + (f"\n    {_way_back(mod)}" if _is_kept_down(mod) else "")
        for mod in mods
        if (mod.get("quarantined") or mod.get("last_error")) and mod.get("state") not in ("ready", "draining")
    ]


def trouble(mod: dict[str, Any]) -> str:
    """Why a mod is down without its name, which stands beside it; further lines are indented."""
    text = str(mod.get("quarantined") or mod["last_error"] or "")
    for beginning in (f"mod {mod['mod_id']}: ", f"mod {mod['mod_id']} is quarantined: "):
        text = text.removeprefix(beginning)
    return text.replace("\n", "\n    ")


def _is_kept_down(mod: dict[str, Any]) -> bool:
    return mod.get("state") == "quarantined"


def _way_back(mod: dict[str, Any]) -> str:
    mod_id = mod["mod_id"]
    return f"bring it back with: modvisor restart {mod_id} (when its files were changed: modvisor reload {mod_id})"


def network_table(stats: dict[str, Any]) -> Table:
    """``modvisor stats``: the network as a whole, a figure per line."""
    supervisor = stats.get("supervisor") or {}
    mods = stats.get("mods") or {}
    ready = sum(mod.get("state") == "ready" for mod in mods.values())
    rows = [
        ("network", f"{stats.get('network_name')} ({stats.get('network_id')})"),
        ("up", duration(stats.get("uptime_seconds"))),
        ("agents", whole(stats.get("agent_count"))),
        ("channels", whole(stats.get("channel_count"))),
        ("mods", f"{len(mods)}, {ready} ready"),
        ("supervisor", f"pid {whole(supervisor.get('pid'))}, {size(supervisor.get('rss'))} RSS, "
                       f"{percent(supervisor.get('cpu_percent'))} CPU"),
        *((f"events {label(name)}", whole(value)) for name, value in (stats.get("events") or {}).items()),
        *_journal_rows(stats.get("journal") or {}),
    ]  # fmt: skip
    return pairs(rows)


def _journal_rows(journal: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What outlives the network, and whether it could be written."""
    if not journal:
        return
    letters, events = journal["dead_letters"], journal["durable_events"]
    yield "dead letters", f"{letters}, {size(journal['dead_letter_bytes'])}: see modvisor dlq ls" if letters else "0"
    yield "durable events", f"{events}, {size(journal['durable_bytes'])} without an answer" if events else "0"
    yield "checkpoints", whole(journal["checkpoints"])
    yield "journal", size(journal["file_bytes"])
    errors = journal["write_errors"]
    yield "journal write errors", f"{errors}, the last: {journal['last_error']}" if errors else "0"


def mod_table(mod: dict[str, Any]) -> Table:
    """``modvisor stats MOD``: everything that is known of one mod, a figure per line."""
    rows = []
    for name, value in mod.items():
        if name in _TOLD_OF_A_MOD and value is not None:
            rows.append((label(name), _TOLD_OF_A_MOD[name](mod)))
        elif not isinstance(value, dict) and name not in _TOLD_ELSEWHERE:
            rows.append((label(name), _figure(label(name), value)))
    runs = any(each.get("pid") is not None for each in mod.get("workers") or [mod])
    rows += [(f"limit {label(name)}", _limit(name, held, runs)) for name, held in (mod.get("limits") or {}).items()]
    for part in ("resources", "traffic"):
        named = {f"{part} {label(name)}": value for name, value in (mod.get(part) or {}).items()}
        rows += [(name, _figure(name, value)) for name, value in named.items()]
    return pairs(rows)


def _quarantine(mod: dict[str, Any]) -> str:
    return f"{trouble(mod)}\n{_way_back(mod)}"


def _last_crash(mod: dict[str, Any]) -> str:
    crash = mod["last_crash"]
    return f"{clock(crash['at'], date=True)}, after {duration(crash['uptime'])}: {_why(crash)}"


def _share(mod: dict[str, Any]) -> str:
    return share(mod["share"])


def _workers(mod: dict[str, Any]) -> str:
    return "\n".join(f"{each['mod_id']} {each['state']}, pid {whole(each['pid'])}" for each in mod["workers"])


_TOLD_OF_A_MOD = {"quarantined": _quarantine, "last_crash": _last_crash, "share": _share, "workers": _workers}
_TOLD_ELSEWHERE = frozenset({"audience"})  # in words: reaches


def _limit(name: str, held: dict[str, Any], runs: bool) -> str:
    """A limit and by what it is enforced; one that is not must not look like one."""
    if held["limit"] is None:
        return "none"
    amount = size(held["limit"]) if name in _SIZES else f"{held['limit']:g}"
    if held["enforced_by"]:
        return f"{amount}, by {held['enforced_by']}"
    return f"{amount}, NOT ENFORCED: see modvisor doctor" if runs else amount  # else its process will tell


def _figure(name: str, value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or NOTHING
    last = name.rpartition(" ")[2]
    if last in ("rss", "uss", "bytes"):
        return size(value)
    if last == "at":
        return clock(value, date=True)
    if last == "uptime":
        return duration(value)
    if last == "percent":
        return percent(value)
    return NOTHING if value is None else str(value)


def event_line(record: dict[str, Any]) -> str:
    """``modvisor events``: one finished event with what became of it."""
    event, response = record.get("event") or {}, record.get("response") or {}
    to = f" → {event['destination_id']}" if event.get("destination_id") else ""
    head = f"{clock(event.get('timestamp'))} {event.get('event_name')} {event.get('source_id') or NOTHING}{to}"
    return f"{head}  {outcome(response)}".replace("\n", " ")


def crash_text(report: dict[str, Any]) -> str:
    """``modvisor crashes``: when, what, why, what it was handling, and its last words."""
    version = report["version"] or NOTHING
    lines = [
        f"{clock(report['at'], date=True)} {report['mod_id']} {version}: {_why(report)}",
        f"  incarnation {report['incarnation']}, pid {report['pid'] or NOTHING}, after {duration(report['uptime'])}",
    ]
    lines += [f"  {line}" for line in _used(report)]
    if report["in_flight_count"]:
        names = ", ".join(map(_in_flight, report["in_flight"][:5]))
        more = report["in_flight_count"] - len(report["in_flight"][:5])
        lines.append(f"  was handling {names}" + (f" and {more} more" if more else ""))
        if report.get("alone"):
            lines.append("  which was under suspicion and handled alone: the event is to blame, not the mod")
    words = report["traceback"] or "\n".join(report["log"][-5:])
    lines += [f"    {line}" for line in words.splitlines()]
    return "\n".join(lines)


def _in_flight(event: dict[str, Any]) -> str:
    attempt = f" (attempt {event['attempt']})" if event.get("attempt", 1) > 1 else ""
    return f"{event['event_name']} from {event['source_id'] or NOTHING}{attempt}"


def _used(report: dict[str, Any]) -> Iterator[str]:
    """What it took over its life, says the kernel, and what it held when it was last looked at."""
    usage, sample = report.get("usage"), report.get("resources")
    if usage:
        yield f"used {decimal(usage['cpu_seconds'])} s of processor, at most {size(usage['max_rss'])} resident"
    if sample:
        counts = {"threads": "threads", "open_files": "open files", "children": "children"}
        held = ", ".join(f"{name} {whole(sample[key])}" for key, name in counts.items())
        yield f"last sample: RSS {size(sample['rss'])}, {held}"


def _why(report: dict[str, Any]) -> str:
    cause, detail = report["cause"].replace("_", " "), report["detail"]
    return detail if detail.startswith(cause) else f"{cause}: {detail}"


def outcome(response: dict[str, Any]) -> str:
    """``ok``, ``delivered to 3``, or the code and message of a failure."""
    data = response.get("data") if isinstance(response.get("data"), dict) else {}
    if response.get("success"):
        # The network's own answer says nothing else; a mod's may count deliveries among its data.
        return f"delivered to {data['delivered']}" if data and data.keys() == {"delivered"} else "ok"
    code = data.get("error") if data else None
    return f"{code or 'failed'}: {response.get('message') or ''}".rstrip(": ")


def replay_table(summary: dict[str, Any]) -> Table:
    """``modvisor replay``: what became of the events."""
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


# -- single values


def cell(value: Any, style: str = "") -> Text:
    """Never markup: ids and versions come from mods."""
    return Text(NOTHING if value is None else printable(str(value)), style)


def state(value: Any) -> Text:
    return cell(value, STATE_STYLES.get(str(value), PASSING_STYLE))


def label(name: str) -> str:
    return name.replace("_", " ")


def whole(value: int | None) -> str:
    return NOTHING if value is None else str(value)


def decimal(value: float | None) -> str:
    """Three digits that count: 0.046, 4.6, 460."""
    if value is None:
        return NOTHING
    return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f} %"


def share(value: float | None) -> str:
    """Of the events of all versions of a mod."""
    return NOTHING if value is None else f"{value * 100:.1f} %"


def size(value: float | None) -> str:
    """Bytes in units of 1000, as ``limits.memory`` reads them."""
    if value is None:
        return NOTHING
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float | None) -> str:
    """The two largest units: 8 s, 3m 05s, 2h 14m, 5d 03h."""
    if seconds is None:
        return NOTHING
    whole_seconds = int(seconds)
    minutes, hours, days = whole_seconds // 60, whole_seconds // 3600, whole_seconds // 86400
    if days:
        return f"{days}d {hours % 24:02}h"
    if hours:
        return f"{hours}h {minutes % 60:02}m"
    if minutes:
        return f"{minutes}m {whole_seconds % 60:02}s"
    return f"{seconds:.1f}s" if seconds < 10 else f"{whole_seconds}s"


def clock(timestamp: float | None, *, date: bool = False) -> str:
    if timestamp is None:
        return NOTHING
    return time.strftime("%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S", time.localtime(timestamp))


def table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def pairs(rows: Iterable[tuple[str, str]]) -> Table:
    """A name and a value per line."""
    made = table()
    made.show_header = False
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(cell(name), cell(value))
    return made
