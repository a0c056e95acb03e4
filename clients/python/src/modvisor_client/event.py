"""What an agent receives: events, and the responses to its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import ModvisorClientError, of_code

REPLY = "agent.reply"
"""The name of the event with which an agent answers another one's request."""


def new_event_id() -> str:
    """Return a random id: 128 bits as 32 hexadecimal digits."""
    return os.urandom(16).hex()


@dataclass(slots=True)
class Event:
    """An event that was delivered to the agent.

    Attributes:
        event_name: `domain.entity.action`.
        source_id: who sent it: `agent:alice`, `mod:wiki`, `system:system`; a bare id is an agent.
        event_id: unique per source.
        destination_id: whom it was sent to: `agent:ID`, `channel:ID`, `group:ID`, `agent:broadcast`.
        timestamp: when the network accepted it, in Unix seconds.
        requires_response: whether the sender waits for a reply; see `AgentClient.reply`.
        response_to: the id of the event that this one replies to.
    """

    event_name: str
    source_id: str | None = None
    event_id: str = ""
    destination_id: str | None = None
    payload: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    timestamp: float = 0.0
    source_type: str | None = None
    source_agent_group: str | None = None
    requires_response: bool = False
    response_to: str | None = None
    thread_name: str | None = None
    text_representation: str | None = None
    visibility: str = "network"
    allowed_agents: list[str] | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Event:
        """Build an event from a frame. Keys that this version does not know are left out."""
        return cls(**{name: data[name] for name in _FIELDS if name in data})

    @property
    def text(self) -> str | None:
        """What a chat shows of the event: its text representation, or a text in its payload."""
        if self.text_representation is not None:
            return self.text_representation
        found = self.payload.get("text")
        return found if isinstance(found, str) else None


_FIELDS = tuple(one.name for one in fields(Event))


@dataclass(slots=True)
class Response:
    """What became of an event that the agent sent.

    Attributes:
        success: whether it was handled or delivered.
        message: for people.
        data: the answer; of a failure, `data["error"]` is its code.
    """

    success: bool
    message: str = ""
    data: Any = None
    event_id: str | None = None
    event_name: str | None = None

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Response:
        return cls(
            bool(data.get("success")),
            str(data.get("message") or ""),
            data.get("data"),
            data.get("event_id"),
            data.get("event_name"),
        )

    @classmethod
    def in_reply(cls, event: Event) -> Response:
        """Read the reply of an agent, see `AgentClient.reply`."""
        payload = event.payload
        if payload.get("success"):
            return cls(True, data=payload.get("data"))
        error = str(payload.get("error") or "handler_error")
        return cls(False, str(payload.get("message") or ""), {"error": error})

    @property
    def error(self) -> str | None:
        """The code of a failure, or None."""
        if self.success:
            return None
        code = self.data.get("error") if isinstance(self.data, dict) else None
        return code if isinstance(code, str) else "internal_error"

    @property
    def delivered(self) -> int | None:
        """To how many agents the event was delivered, if no mod answered it; else None."""
        data = self.data
        return data["delivered"] if self.success and isinstance(data, dict) and data.keys() == {"delivered"} else None

    def exception(self) -> ModvisorClientError:
        """Return the error of a failure."""
        data = self.data if isinstance(self.data, dict) else {}
        return of_code(self.error or "internal_error", self.message, data)

    def check(self) -> Response:
        """Return the response if it is a success, else raise its error."""
        if not self.success:
            raise self.exception()
        return self
