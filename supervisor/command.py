"""What a ``system.*`` command is, and how its payload is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Never

from ..ipc.event import Event, EventResponse
from .agents import Refusal
from .config import hint
from .events import Sender

EVERY = frozenset({"request_id", "command"})
"""Keys that clients of other agent networks send with every command."""


class Command(NamedTuple):
    """A command and the permission that its sender needs.

    Attributes:
        permission: what an agent's group or a mod must be granted. None: any authenticated agent
            may use the command.
        for_mods: what a mod needs if ``permission`` is None. A mod has no inbox or subscription of
            its own, so whatever it changes, it changes for others. None: the command only reads.
        keys: what its payload may hold; an unknown key is refused. None: it is ignored, because
            clients of other agent networks send more.
        is_repeated: whether a retry (an event with the same id) gets the first answer. Commands
            that only read are run again. A registration is, too: its answer holds a secret, which
            only a new proof may get.
    """

    run: Callable[[Event, Sender], Awaitable[EventResponse]]
    permission: str | None = None
    for_mods: str | None = "agents"
    keys: frozenset[str] | None = None
    is_repeated: bool = False


def once(*command: Any, keys: frozenset[str] | None = None, **more: Any) -> Command:
    """Return a command that changes something, so that a retry must not run it again."""
    return Command(*command, **more, keys=keys, is_repeated=True)


def check_keys(event: Event, command: Command) -> None:
    """Refuse a key that the command does not know: a misspelt one would be ignored with success."""
    unknown = [] if command.keys is None else [key for key in event.payload if key not in command.keys]
    if unknown:
        raise Refusal("; ".join(f"{key}: unknown key; {hint(key, command.keys or ())}" for key in unknown))


class Given:
    """The payload of a command, read field by field.

    A field that is not as expected is refused by name.

    Every reader raises `Refusal` (``bad_input``). None and empty text count as absent.
    """

    def __init__(self, event: Event) -> None:
        self._payload = event.payload

    def text(self, *names: str) -> str | None:
        """Return the first of these fields that is given."""
        for name in names:
            value = self._payload.get(name)
            if value is not None and value != "":
                return value if isinstance(value, str) else self._refuse(name, "text", value)
        return None

    def texts(self, name: str) -> list[str]:
        value = self._payload.get(name) or []
        if isinstance(value, list) and set(map(type, value)) <= {str}:
            return value
        raise Refusal(f"{name}: expected a list of texts")

    def mapping(self, name: str) -> dict[str, Any] | None:
        value = self._payload.get(name)
        return value if value is None or isinstance(value, dict) else self._refuse(name, "a mapping", value)

    def flag(self, name: str) -> bool:
        value = self._payload.get(name, False)
        return value if isinstance(value, bool) else self._refuse(name, "true or false", value)

    def seconds(self, name: str, most: float) -> float:
        value = self._payload.get(name, 0)
        if type(value) in (int, float) and 0 <= value <= most:
            return float(value)
        raise Refusal(f"{name}: expected seconds from 0 to {most:g}, got {value!r}")

    def channel(self) -> str:
        channel = self.text("channel_id", "channel")
        if channel is None:
            raise Refusal("channel_id: expected the name of a channel")
        return channel.removeprefix("channel:")

    def mod(self) -> str:
        mod = self.text("mod_id", "mod_path", "mod")
        if mod is None:
            raise Refusal("mod_id: expected the id or path of a loaded mod")
        return mod

    @staticmethod
    def _refuse(name: str, expected: str, value: Any) -> Never:
        raise Refusal(f"{name}: expected {expected}, got {type(value).__name__}")


def agent_id_of(event: Event) -> str:
    """Return the ``agent_id`` of a payload, or else the agent that sent the event."""
    agent_id = event.payload.get("agent_id", event.source_agent)
    if not isinstance(agent_id, str):
        raise Refusal("agent_id: expected the id of an agent")
    return agent_id


def who_is(sender: Sender, event: Event) -> str:
    if sender.mod is not None:
        return f"mod {sender.mod.mod_id}"
    return f"agent {sender.agent.agent_id!r}" if sender.agent is not None else str(event.source_id)


def answered(event: Event, message: str, **data: Any) -> EventResponse:
    """Return a response in the shape that clients of other agent networks expect.

    They look for ``type``, ``command`` and their request_id.
    """
    answer = {"type": "system_response", "command": short_name(event.event_name), **data}
    if "request_id" in event.payload:
        answer["request_id"] = event.payload["request_id"]
    return EventResponse(True, message, answer)


def short_name(event_name: str) -> str:
    return event_name.removeprefix("system.")


def failure(code: str, message: str, /, **details: Any) -> EventResponse:
    return EventResponse(False, message, {**details, "error": str(code)})
