"""The events that an agent sends, from what its program says. Pure, apart from the sizes of files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import BadUse
from .event import new_event_id
from .frames import LARGE
from .pieces import FileBytes

FIELDS = frozenset(
    {"visibility", "allowed_agents", "thread_name", "text_representation", "requires_response", "response_to"}
)
"""What an event may have besides name, payload, destination, timeout, id and metadata."""


def event_of(
    name: str,
    payload: Mapping[str, Any] | None,
    to: str | None,
    timeout: float | None,
    event_id: str | None,
    metadata: Mapping[str, Any] | None,
    fields: dict[str, Any],
) -> dict[str, Any]:
    """Return an event as it travels. Raise `BadUse` for a field that no event has."""
    unknown = fields.keys() - FIELDS
    if unknown:
        raise BadUse(f"{', '.join(sorted(unknown))}: no field of an event; known are {', '.join(sorted(FIELDS))}")
    event: dict[str, Any] = {"event_name": name, "event_id": event_id or new_event_id(), "payload": dict(payload or {})}
    optional = {"destination_id": to, "timeout": timeout, "metadata": metadata and dict(metadata), **fields}
    event.update((key, value) for key, value in optional.items() if value is not None)
    return event


def is_large(payload: dict[str, Any]) -> bool:
    """Return whether a value alone is too large for a message: then nothing is packed in vain."""
    return any(isinstance(value, bytes | bytearray | str) and len(value) > LARGE for value in payload.values())


def files_of(files: Mapping[str, str | Path]) -> dict[str, FileBytes]:
    """Return the values that stand for files in a payload."""
    return {key: FileBytes.of(path) for key, path in files.items()}
