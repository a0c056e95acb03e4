"""What a network says of itself when it is ready."""

from __future__ import annotations

from typing import Any

from ...config.port_urls import listens_everywhere
from .mods import trouble

_FAILED = "failed"


def ready_text(found: dict[str, Any], end: str = "Ctrl-C or 'modvisor stop'") -> str:
    """Return the lines of a network that is ready; ``end``: how to end it."""
    everywhere = " (and every other address of this machine)" if listens_everywhere(found["host"]) else ""
    lines = [
        f"network {found['name']}{f', node {node}' if (node := found.get('node')) else ''} (pid {found['pid']})",
        f"  http     {found['url'] + everywhere if found['url'] else 'not served; the file names no port'}",
        f"  admin    {found['admin_socket']}",
        f"  storage  {found['storage']}",
        *([f"  log      {found['log']}"] if "log" in found else []),
        *(f"  {_mod_text(mod)}" for mod in found["mods"]),
        *([f"  watching {', '.join(found['watched'])}"] if found["watched"] else []),
        f"ready in {found['seconds'] * 1000:.0f} ms; {end} ends it",
    ]
    return "\n".join(lines)


def _mod_text(mod: dict[str, Any]) -> str:
    pids = mod["pids"] or [mod["pid"]]
    if mod["state"] == _FAILED:  # its reason is in the log by now
        return f"{mod['state']:<8} {mod['mod_id']}: the log says why, and so does 'modvisor stats {mod['mod_id']}'"
    if mod["last_error"] is not None or None in pids:
        return f"{mod['state']:<8} {mod['mod_id']}: {trouble(mod)}"
    took = "" if mod["start_ms"] is None else f"  {mod['start_ms']:.0f} ms"
    named = "pids" if mod["pids"] else "pid"
    return f"loaded   {mod['mod_id']} {mod['version']}  {named} {', '.join(map(str, pids))}{took}"
