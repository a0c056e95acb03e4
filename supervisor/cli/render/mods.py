"""Mods as tables: a line per mod, and why a mod is down."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..columns import Cell, Columns
from ..output import printable
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
    last = [*(["AUDIENCE"] if are_divided else []), *(["SANDBOX"] if wide else [])]
    made = Columns([*_LEFT, *right, *last], right=right)
    for mod in rows:
        more = [cell(share(mod.get("share"))), cell(mod.get("reaches"))] if are_divided else []
        made.add_row(*_mod_cells(mod), *more, *([cell(confined(mod))] if wide else []))
        for worker in mod.get("workers", ()):
            made.add_row(*_mod_cells(worker), *(Cell("") for _ in more), *([cell(confined(worker))] if wide else []))
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
    names = [cell(mod.get("mod_id")), cell(mod.get("version")), cell(mod.get("state"), state_style(mod.get("state")))]
    return [*names, *map(cell, plain)]


def troubles(mods: Iterable[dict[str, Any]]) -> list[str]:
    """Return a text per mod that is down: why, and how to bring a quarantined mod back."""
    return [
        f"{mod['mod_id']} is {mod['state']}: {trouble(mod)}" + (f"\n    {way_back(mod)}" if _is_kept_down(mod) else "")
        for mod in mods
        if (mod.get("quarantined") or mod.get("last_error")) and mod.get("state") not in ("ready", "draining")
    ]


def trouble(mod: dict[str, Any]) -> str:
    """Return why a mod is down, without its name, which stands beside it. Further lines are indented."""
    text = str(mod.get("quarantined") or mod["last_error"] or "")
    for beginning in (f"mod {mod['mod_id']}: ", f"mod {mod['mod_id']} is quarantined: "):
        text = text.removeprefix(beginning)
    return text.replace("\n", "\n    ")


def _is_kept_down(mod: dict[str, Any]) -> bool:
    return mod.get("state") == "quarantined"


def way_back(mod: dict[str, Any]) -> str:
    mod_id = mod["mod_id"]
    return f"bring it back with: modvisor restart {mod_id} (when its files were changed: modvisor reload {mod_id})"
