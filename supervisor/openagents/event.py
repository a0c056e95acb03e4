"""`Event` with the fields and names that programs written for OpenAgents use."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from ...ipc import event as ours
from ...ipc.event import new_event_id


def _now() -> int:
    return int(time.time())


@dataclass
class Event:
    """An event as OpenAgents has it. Its grammar is checked when it is built.

    Raises `InvalidEvent`, a ValueError, which names the wrong field.

    Attributes:
        source_type, relevant_mod: of OpenAgents alone; they do not travel here.
        timestamp: Unix seconds; the network sets it.
        source_agent_group: the network sets it.
    """

    event_name: str
    source_id: str | None = None
    event_id: str = field(default_factory=new_event_id)
    timestamp: int = field(default_factory=_now)
    source_type: str = "agent"
    destination_id: str | None = None
    relevant_mod: str | None = None
    requires_response: bool = False
    response_to: str | None = None
    thread_name: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    text_representation: str | None = None
    visibility: str = "network"
    allowed_agents: Any = None
    secret: str | None = None
    source_agent_group: str | None = None

    def __post_init__(self) -> None:
        self.visibility = _word(self.visibility)
        as_ours(self)

    @property
    def id(self) -> str:
        return self.event_id

    @property
    def message_id(self) -> str:
        return self.event_id

    @property
    def sender_id(self) -> str | None:
        return self.source_id

    @property
    def source_agent_id(self) -> str | None:
        return self.source_id

    @property
    def target_id(self) -> str | None:
        return self.destination_id

    @property
    def content(self) -> dict[str, Any]:
        return self.payload

    def matches_pattern(self, pattern: str) -> bool:
        """Tell whether the name is ``pattern``, or begins with it up to its final ``*``."""
        return self.event_name.startswith(pattern[:-1]) if pattern.endswith("*") else self.event_name == pattern

    def to_dict(self) -> dict[str, Any]:
        """Return all fields by name."""
        return {name: getattr(self, name) for name in _NAMES}

    model_dump = to_dict

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Event:
        """Build an event from its fields; other keys are ignored."""
        return cls(**{name: value for name, value in data.items() if name in _NAMES})


_NAMES = tuple(each.name for each in fields(Event))
_SHARED = tuple(name for name in _NAMES if name not in ("source_type", "relevant_mod", "visibility", "allowed_agents"))


def as_ours(event: Any) -> ours.Event:
    """Return an event of any class with these attributes as one of ours.

    Raises:
        InvalidEvent: it does not follow the grammar.
    """
    if isinstance(event, ours.Event):
        return event
    values = {name: getattr(event, name) for name in _SHARED if hasattr(event, name)}
    if isinstance(values.get("timestamp"), int):
        values["timestamp"] = float(values["timestamp"])
    allowed = getattr(event, "allowed_agents", None)
    return ours.Event(
        **values,
        visibility=_word(getattr(event, "visibility", "network")),
        allowed_agents=None if allowed is None else sorted(allowed),
    )


def as_theirs(event: ours.Event) -> Event:
    """Return one of our events with the names of OpenAgents."""
    values = {name: getattr(event, name) for name in _SHARED}
    values["timestamp"] = int(event.timestamp)
    return Event(**values, visibility=event.visibility, allowed_agents=event.allowed_agents)


def _word(value: Any) -> Any:
    """Return the text of an enumeration's member; anything else as it is."""
    return value.value if isinstance(value, Enum) else value
