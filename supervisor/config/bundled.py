"""The bundled mods, by name only: the core never imports a mod."""

from __future__ import annotations

PERMISSIONS: dict[str, frozenset[str]] = {
    "modvisor.mods.workspace.wiki": frozenset(),
    "modvisor.mods.workspace.project": frozenset(),
    # puts agents into channels on their behalf
    "modvisor.mods.workspace.messaging": frozenset({"channels"}),
    "modvisor.mods.workspace.analytics": frozenset(),
}
"""mod_path to the permissions it has without a line of config."""
