"""Failed responses to commands on mods."""

from __future__ import annotations

from typing import Any

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import EventResponse
from ..config import ModConfig

NOT_ALLOWED = ModvisorError("the network's allowed_mods do not include it", code=Code.FORBIDDEN)

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


def _short(value: Any) -> Any:
    return value[:MAX_RESPONSE_TEXT] if isinstance(value, str) else value
