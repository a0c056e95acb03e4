"""Responses to commands on mods, and what their texts say of a mod."""

from __future__ import annotations

from typing import Any

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import EventResponse
from ...ipc.manifest import Manifest
from ..config import ModConfig
from ..lifecycle import COMING_BACK
from .mods.workers import Mod, pids_of

NOT_ALLOWED = ModvisorError("the network's allowed_mods do not include it", code=Code.FORBIDDEN)

OTHER_COPIES = (
    "the number of its copies, or what its copies on other nodes run, cannot be changed on one node: 'modvisor reload' "
    "reloads all copies, and another number in the network file needs a restart of all nodes with that file"
)

MAX_RESPONSE_TEXT = 20_000  # enough for a traceback with its log lines


def failure(config: ModConfig, error: ModvisorError, message: str | None = None) -> EventResponse:
    """Return a failed response that names the mod, the cause and the mod's path.

    Args:
        message: by default the mod's id and the error.
    """
    if message is None:
        prefix = f"mod {config.mod_id}: "
        message = prefix + str(error).removeprefix(prefix)
    details = {key: _short(value) for key, value in error.details.items()}
    details |= {"mod_id": config.mod_id, "mod_path": config.path}
    return EventResponse.failure(error.code, message, **details)


def still_there(mod: Mod) -> str:
    """Say what there is of a mod whose reload failed."""
    if mod.incarnation is not None:
        return "the old one still serves"
    return "its restart goes on" if mod.state in COMING_BACK else "the mod is down"


def loaded(mod: Mod, manifest: Manifest) -> EventResponse:
    data = {
        "mod_id": mod.mod_id,
        "mod_path": mod.config.path,
        "version": manifest.version,
        **pids_of(mod),
        "patterns": list(manifest.patterns),
    }
    return EventResponse(True, f"mod {mod.mod_id} {manifest.version} loaded from {mod.config.path}", data)


def _short(value: Any) -> Any:
    return value[:MAX_RESPONSE_TEXT] if isinstance(value, str) else value
