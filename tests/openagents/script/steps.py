"""What a script for a network of mods is made of: steps, and values that an earlier answer gave."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kept:
    """Stands in a payload for a value that an earlier step kept under this name."""

    name: str


@dataclass(frozen=True)
class Join:
    """An agent registers, with the password hash of its group if it has one."""

    agent: str
    group: str | None = None
    password_hash: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Leave:
    """An agent unregisters."""

    agent: str


@dataclass(frozen=True)
class Send:
    """An agent sends an event.

    Attributes:
        to: the destination.
        id: the event's id, where a later step names it.
        keep: name -> path in the answer's data (``topic.topic_id``), for `Kept`.
        unordered: keys of lists in the answer whose order is not the mod's to say: it comes from a
            set, from a folder, or from times of one second.
    """

    agent: str
    name: str
    payload: dict[str, Any] = field(default_factory=dict)
    to: str | None = None
    id: str | None = None
    keep: dict[str, str] = field(default_factory=dict)
    unordered: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


Step = Join | Leave | Send


def resolved(value: Any, kept: dict[str, Any]) -> Any:
    """Return the value with each `Kept` in it replaced."""
    if isinstance(value, Kept):
        return kept[value.name]
    if isinstance(value, dict):
        return {key: resolved(item, kept) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, kept) for item in value]
    return value


def at(data: Any, path: str) -> Any:
    """Return what lies at a path such as ``topics.0.topic_id``; None if nothing does."""
    for part in path.split("."):
        data = data[int(part)] if isinstance(data, list) else (data or {}).get(part)
    return data
