"""The nodes of a cluster as a table, and which of them did not answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..terminal.columns import Columns
from .figures import NOTHING, duration, percent, size, whole
from .mods import cell

_RIGHT = ("UP", "CPU", "RSS", "EVENTS", "MODS")


def nodes_table(nodes: list[dict[str, Any]]) -> Columns:
    """Return the table of ``modvisor node ls``: a line per node."""
    made = Columns(["NODE", "VERSION", "STATE", *_RIGHT, "LABELS", "ADDRESS", "RUNS"], right=_RIGHT)
    for node in nodes:
        process = node.get("supervisor") or {}
        figures = [
            duration(node.get("uptime_seconds")),
            percent(process.get("cpu_percent")),
            size(process.get("rss")),
            whole((node.get("events") or {}).get("processed")),
            whole(None if node.get("mods") is None else len(node["mods"])),
        ]
        texts = [", ".join(node.get("labels") or ()) or NOTHING, node.get("address"), runs(node.get("mods"))]
        state, style = state_of(node)
        made.add_row(cell(node["node"]), cell(node.get("version")), cell(state, style), *map(cell, (*figures, *texts)))
    return made


def state_of(node: dict[str, Any]) -> tuple[str, str]:
    """Return the state of a node in a word, and its style."""
    if node.get("answered") is False:
        return "silent", "red"
    return ("draining", "yellow") if node.get("draining") else ("ready", "green")


SHOWN = 6  # mods of a node in its line


def runs(mods: list[str] | None) -> str:
    """Return the first mods of a node, and how many more there are."""
    if not mods:
        return NOTHING
    more = f" and {len(mods) - SHOWN} more" if len(mods) > SHOWN else ""
    return ", ".join(mods[:SHOWN]) + more


def silent(answer: dict[str, Any]) -> list[str]:
    """Return a text for each node that did not answer: what is shown lacks what it knows."""
    return [
        f"node {node['node']} did not answer: {node['error']}"
        for node in answer.get("nodes") or ()
        if not node.get("answered", True)
    ]


def copies(stores: Iterable[dict[str, Any]]) -> str:
    """Return in how many copies the servers keep what a network has."""
    found = [store for store in stores if store["wanted"]]
    if not found:
        return "not known"
    wanted = sorted({store["wanted"] for store in found})
    lone = " (with its server, all of it is lost)" if wanted == [1] else ""
    kept = "all of them up to date" if all(store["copies"] == store["wanted"] for store in found) else "NOT all there"
    return f"{' or '.join(map(str, wanted))} of each of {len(found)} stores, {kept}{lone}"


def behind(found: dict[str, Any]) -> list[str]:
    """Return a text for each server whose copies are not up to date, and for each store that gives no answer."""
    lacking: dict[str, list[dict[str, Any]]] = {}
    for store in found.get("stores") or ():
        for copy in store["behind"]:
            lacking.setdefault(copy["server"], []).append({**copy, "store": store["store"]})
    texts = [
        f"server {server}: its copies of {', '.join(copy['store'] for copy in of)} are behind{_why(of)}"
        for server, of in lacking.items()
    ]
    return texts + [f"{store['store']}: {store['error']}" for store in found.get("stores") or () if store["error"]]


def _why(of: list[dict[str, Any]]) -> str:
    lag, ago = max(copy["lag"] for copy in of), min(copy["seen_ago"] for copy in of)
    parts = [f"by up to {lag} changes"] if lag else []
    parts += [f"it was heard of {ago:g} s ago"] if ago > 1 or any(copy["is_offline"] for copy in of) else []
    return f": {', '.join(parts)}" if parts else ""


def cluster_text(found: dict[str, Any]) -> str:
    """Return ``modvisor cluster status``: how the servers are reached, and what is wrong."""
    nodes, silent_nodes = found["nodes"], silent(found)
    reached = f"connected to {found['server']}" if found["is_connected"] else f"NOT CONNECTED: {found['problem']}"
    lines = [
        f"cluster {found['network']}, seen from node {found['node']}",
        f"  servers   {', '.join(found['servers'])}: {reached}",
        f"  copies    {copies(found.get('stores') or ())}",
        f"  nodes     {len(nodes)}, {len(nodes) - len(silent_nodes)} answer",
    ]
    if dropped := {reason: count for reason, count in found["dropped"].items() if count}:
        lines.append(f"  dropped   {', '.join(f'{count} {reason}' for reason, count in dropped.items())}")
    lines += [f"  {trouble}" for trouble in behind(found)]
    lines += [f"  {mod['mod_id']}: {mod['why']}" for mod in found.get("unplaced", ())]
    lines += [f"  {mod['mod_id']} on node {mod['node']}: {mod['why']}" for mod in found.get("mixed", ())]
    return "\n".join([*lines, *silent_nodes])
