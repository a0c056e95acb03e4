"""``modvisor status``: does the network run, and is anything wrong?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import typer

from ...config.port_urls import listens_everywhere, port_url
from ..client.connect import connect
from ..settings import Settings
from ..terminal.exits import ExitCode
from ..terminal.output import Output, printable

_READY = "ready"
_FINE = frozenset({_READY, "draining"})


def status(settings: Settings) -> None:
    """Tell in a few lines whether the network runs and what is wrong. Exit code 0: nothing; 1: a mod is not ready."""
    client = connect(settings)
    found = client.get("/status")
    down = [mod["mod_id"] for mod in found["mods"] if mod["state"] not in _FINE]
    mods = [mod for mod in client.get("/mods")["mods"] if mod["mod_id"] in down] if down else []
    document = {"success": not down, "running": True, **found, "troubles": list(map(_trouble, mods))}
    Output(as_json=settings.json).document(document, lambda: _show(found, mods))
    if down:
        raise typer.Exit(ExitCode.FAILED)


def _trouble(mod: dict[str, Any]) -> dict[str, Any]:
    return {"mod_id": mod["mod_id"], "state": mod["state"], "reason": mod.get("quarantined") or mod.get("last_error")}


def _show(found: dict[str, Any], down: list[dict[str, Any]]) -> None:
    from ..render.figures import duration
    from ..render.mods import troubles

    url = port_url(str(found["host"]), found["port"], tls=bool(found.get("tls"))) if found["port"] else None
    if listens_everywhere(str(found["host"])):
        url = f"{url} (and every other address of this machine)"
    lines = [
        f"network {found['name']} runs (pid {found['pid']}, modvisor {found['version']}, up "
        f"{duration(found['uptime_seconds'])})",
        f"  http     {url or 'not served; the file names no port'}",
        f"  storage  {found['storage']}",
        f"  agents   {found['agents']}",
        f"  mods     {_counted(found['mods'])}",
        *troubles(down),
        *(f"{mod['mod_id']} is {mod['state']}" for mod in down if not _trouble(mod)["reason"]),
    ]
    print(printable("\n".join(lines)))


def _counted(mods: list[dict[str, Any]]) -> str:
    states = Counter(mod["state"] for mod in mods)
    parts = (f"{states[state]} {state}" for state in sorted(states, key=lambda state: state != _READY))
    return ", ".join(parts) or "none loaded"
