"""Mods as tables: a line per mod, and why a mod is down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..terminal.columns import Cell, Columns
from ..terminal.output import printable
from .figures import NOTHING, decimal, duration, percent, share, size, state_style, whole

_LEFT = ("ID", "VERSION", "STATE")
_RIGHT = ("PID", "UP", "CPU", "RSS", "USS", "IN", "FAILED", "P50 ms", "P99 ms", "RESTARTS")


def mods_table(mods: Iterable[dict[str, Any]], *, wide: bool = False) -> Columns:
    """Return the table of ``modvisor ps``: a line per mod, the versions of a mod below each other.

    Args:
        wide: with what confines each mod.
    """
    rows = _by_family(mods)
    are_divided = any(mod.get("reaches", "everyone") != "everyone" for mod in rows)
    right = (*_RIGHT, "SHARE") if are_divided else _RIGHT
    on_nodes = any("node" in mod for mod in rows)
    last = [*(["AUDIENCE"] if are_divided else []), *(["SANDBOX"] if wide else [])]
    made = Columns([*(["NODE"] if on_nodes else []), *_LEFT, *right, *last], right=right)
    for mod in rows:
        more = [cell(share(mod.get("share"))), cell(mod.get("reaches"))] if are_divided else []
        node = [cell(mod.get("node"))] if on_nodes else []
        made.add_row(*node, *_mod_cells(mod), *more, *([cell(confined(mod))] if wide else []))
        for worker in mod.get("workers", ()):
            made.add_row(
                *node, *_mod_cells(worker), *(Cell("") for _ in more), *([cell(confined(worker))] if wide else [])
            )
    return made


def confined(mod: dict[str, Any]) -> str | None:
    """Return what confines a mod in one line: its profile, the means of each part, what is not enforced."""
    if not (sandbox := mod.get("sandbox")):
        return None
    means = [f"{part}: {by}" for part, by in sandbox["enforced_by"].items()]
    gaps = [f"{part}: NOT ENFORCED" for part in sandbox["not_enforced"]]
    return f"{sandbox['profile']} ({'; '.join((*gaps, *means))})"


def _by_family(mods: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mods in load order, but with the versions of a mod together, where the first one stands."""
    families: dict[Any, list[dict[str, Any]]] = {}
    for mod in mods:
        families.setdefault(mod.get("family") or mod.get("mod_id"), []).append(mod)
    return [mod for versions in families.values() for mod in versions]


def cell(value: Any, style: str = "") -> Cell:
    """Return a cell without what would control a terminal: ids and versions come from mods."""
    return Cell(NOTHING if value is None else printable(str(value)), style)


def _mod_cells(mod: dict[str, Any]) -> list[Cell]:
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
    version = mod.get("version")
    shown = f"{version or NOTHING}*" if mod.get("mixed") else version
    names = [cell(mod.get("mod_id")), cell(shown), cell(mod.get("state"), state_style(mod.get("state")))]
    return [*names, *map(cell, plain)]


NEARLY_ALL = 0.9
"""The part of its memory limit from which on a mod is said to be short of memory."""


def troubles(mods: Iterable[dict[str, Any]]) -> list[str]:
    """Return a text per mod that is down, or short of memory, or runs other code than is expected: why, and what to do."""
    found = []
    for mod in mods:
        if mod.get("state") in ("ready", "draining"):
            found += _short_of_memory(mod)
            if mod.get("mixed"):
                where = f" on node {mod['node']}" if mod.get("node") else ""
                found.append(f"* {mod['mod_id']}{where} {mod['mixed']}")
        elif mod.get("quarantined") or mod.get("last_error"):
            found.append(f"{mod['mod_id']} is {mod['state']}: {trouble(mod)}{_what_to_do(mod)}")
    return found


def _short_of_memory(mod: dict[str, Any]) -> list[str]:
    limits = mod.get("limits") or {}
    most = (limits.get("memory") or {}).get("limit")
    used = (mod.get("resources") or {}).get("rss")
    if not most or not used or used < NEARLY_ALL * most:
        return []
    text = f"{mod['mod_id']} uses {size(used)} of the {size(most)} that 'limits.memory' allows"
    advice = f"free it with: modvisor restart {mod['mod_id']}"
    if (limits.get("memory_soft") or {}).get("limit") is None:
        advice += "; with 'limits.memory_soft', the network does so in time, without losing an event"
    return [f"{text}\n    {advice}"]


def _what_to_do(mod: dict[str, Any]) -> str:
    if mod.get("state") == "quarantined":
        return f"\n    {way_back(mod)}"
    if mod.get("state") == "failed":
        return f"\n    mend it, then: modvisor reload {mod['mod_id']}"
    return ""


def trouble(mod: dict[str, Any]) -> str:
    """Return why a mod is down, without its name, which stands beside it. Further lines are indented."""
    text = str(mod.get("quarantined") or mod["last_error"] or "")
    for beginning in (f"mod {mod['mod_id']}: ", f"mod {mod['mod_id']} is quarantined: "):
        text = text.removeprefix(beginning)
    return text.replace("\n", "\n    ")


def way_back(mod: dict[str, Any]) -> str:
    mod_id = mod["mod_id"]
    back = f"bring it back with: modvisor restart {mod_id} (when its files were changed: modvisor reload {mod_id})"
    return f"{back}; modvisor crashes {mod_id} says why"
