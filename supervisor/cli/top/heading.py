"""The lines above the table: the network's figures, and what is wrong first."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..client.live import Picture, Row
from ..render.figures import NOTHING, duration, percent, size, whole
from ..terminal.output import printable
from .columns import is_high, rate
from .order import trouble

_HELPS = {"quarantined": "x restarts it", "failed": "x starts it again", "stopped": "x starts it again"}


def heading(picture: Picture) -> list[str]:
    """Return two lines of figures of the whole network."""
    network = picture.network
    supervisor = network.get("supervisor") or {}
    used = supervisor.get("resources") or supervisor
    events = network.get("events") or {}
    version = f" {network['version']}" if network.get("version") else ""
    return [
        printable(
            f"{network.get('name') or NOTHING}{version}  up {duration(network.get('uptime_seconds'))}  "
            f"{_mods(picture.mods)}  {whole(network.get('agents'))} agents"
        ),
        f"{rate(network.get('events_per_second'))} events/s  {whole(events.get('failed'))} failed  "
        f"{whole(network.get('dead_letters'))} dead letters  "
        f"network {percent(used.get('cpu_percent'))}, {size(used.get('rss'))}",
    ]


def _mods(mods: dict[str, Row]) -> str:
    count = f"{len(mods)} mod{'' if len(mods) == 1 else 's'}"
    states = Counter(str(row.get("state")) for row in mods.values())
    return f"{count}: " + ", ".join(f"{many} {state}" for state, many in states.most_common()) if mods else count


def worst(picture: Picture) -> str | None:
    """Return one sentence about what is wrong: a node that is silent, or the mod that is worst off, and the key that
    mends it. None if all is well.
    """
    silent = [node for node in picture.network.get("nodes") or () if not node["answered"]]
    if silent:
        return printable(f"node {silent[0]['node']} did not answer: {silent[0]['error']}").replace("\n", " ")
    bad = [row for row in picture.mods.values() if trouble(row) < 9]
    if not bad:
        return None
    row = min(bad, key=trouble)
    more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
    return printable(f"{row['id']}{more}: {_wrong(row)}").replace("\n", " ")


def _wrong(row: dict[str, Any]) -> str:
    state, problem = str(row.get("state")), row.get("problem")
    if state != "ready":
        cause = _without_name(str(problem), str(row["id"])) if problem else ""
        help_ = f" [{_HELPS[state]}]" if state in _HELPS else ""
        return f"{state}{help_}{': ' if cause else ''}{cause}"
    if is_high(row.get("rss"), row.get("memory_limit")):
        return f"uses {size(row.get('rss'))} of the {size(row.get('memory_limit'))} that it may"
    return f"uses {percent(row.get('cpu'))} of a core of the {percent(row.get('cpu_limit'))} that it may"


def _without_name(text: str, mod_id: str) -> str:
    for beginning in (f"mod {mod_id}: ", f"mod {mod_id} is quarantined: "):
        text = text.removeprefix(beginning)
    return text
