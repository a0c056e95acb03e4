"""Figures of a network or of one mod as tables, a figure per line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from .crashes import why
from .figures import NOTHING, clock, duration, label, percent, share, size, whole
from .mods import confined, trouble, way_back
from .tables import pairs

_SIZES = frozenset({"memory", "memory_soft", "disk"})  # limits in bytes


def network_table(stats: dict[str, Any]) -> Table:
    """Return the table of ``modvisor stats``: the network as a whole, a figure per line."""
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
        *_lost_rows(supervisor.get("output_lost")),
        *_spare_rows(stats.get("spares") or {}),
        *((f"events {label(name)}", whole(value)) for name, value in (stats.get("events") or {}).items()),
        *_journal_rows(stats.get("journal") or {}),
    ]  # fmt: skip
    return pairs(rows)


def _lost_rows(lost: int | None) -> Iterator[tuple[str, str]]:
    if lost:
        yield "output lost", f"{lost} messages could not be written to the network's stdout and stderr"


def _spare_rows(spares: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield how many spare workers wait, if the config wants any."""
    if spares.get("wanted"):
        lost = f", {spares['lost']} lost while they waited" if spares["lost"] else ""
        yield "spare workers", f"{spares['waiting']} of {spares['wanted']} wait, {spares['taken']} taken{lost}"


def _journal_rows(journal: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what outlives the network, and whether it could be written."""
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
    """Return the table of ``modvisor stats MOD``: all that is known of one mod, a figure per line."""
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
    return f"{trouble(mod)}\n{way_back(mod)}"


def _last_crash(mod: dict[str, Any]) -> str:
    crash = mod["last_crash"]
    return f"{clock(crash['at'], date=True)}, after {duration(crash['uptime'])}: {why(crash)}"


def _share(mod: dict[str, Any]) -> str:
    return share(mod["share"])


def _workers(mod: dict[str, Any]) -> str:
    return "\n".join(f"{each['mod_id']} {each['state']}, pid {whole(each['pid'])}" for each in mod["workers"])


def _sandbox(mod: dict[str, Any]) -> str:
    return confined(mod) or NOTHING


_TOLD_OF_A_MOD = {
    "quarantined": _quarantine,
    "last_crash": _last_crash,
    "share": _share,
    "workers": _workers,
    "sandbox": _sandbox,
}
_TOLD_ELSEWHERE = frozenset({"audience"})  # in words: reaches


def _limit(name: str, held: dict[str, Any], runs: bool) -> str:
    """Return a limit and what enforces it. A limit that is not enforced must not look enforced."""
    if held["limit"] is None:
        return "none"
    amount = size(held["limit"]) if name in _SIZES else f"{held['limit']:g}"
    if held["enforced_by"]:
        return f"{amount}, by {held['enforced_by']}"
    return f"{amount}, NOT ENFORCED: see modvisor doctor" if runs else amount  # without a process it is not known yet


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
