"""What a sender hears when no mod has answered, and how a changed event goes on."""

from __future__ import annotations

from typing import Any

from ...ipc.address import SYSTEM, Address
from ...ipc.errors import Code, ModvisorError
from ...ipc.event import Event, EventResponse


def failure(code: str, message: str, **details: Any) -> EventResponse:
    return EventResponse(False, message, {**details, "error": str(code)})


def problem_of(mod_id: str, problem: ModvisorError, **more: Any) -> EventResponse:
    """Return the failure of an event that a mod failed to answer."""
    return failure(problem.code, str(problem), **{**problem.details, "mod": mod_id, **more})


def unsendable(error: ModvisorError) -> EventResponse:
    """Return the failure of an event that no pipe can carry."""
    return failure(error.code, f"the event cannot be sent to a mod: {error}")


def no_such_mod(mod: str, loaded: list[str]) -> EventResponse:
    text = f"no mod {mod!r} is loaded (loaded: {', '.join(loaded) or 'none'})"
    return failure(Code.NO_SUCH_MOD, text, mod=mod)


def no_handler(mod_id: str, event_name: str, patterns: tuple[str, ...]) -> EventResponse:
    handled = ", ".join(patterns[:20]) or "nothing"
    text = f"mod {mod_id} has no handler for {event_name!r}; it handles {handled}"
    return failure(Code.UNKNOWN_EVENT, text, mod=mod_id)


def taken(mod_id: str) -> EventResponse:
    """Return the answer for a mod that was addressed and returned None."""
    return EventResponse(True, f"mod {mod_id} took the event and answered nothing", {"delivered": 0, "mod": mod_id})


def delivered(reached: int) -> EventResponse:
    agents = "1 agent" if reached == 1 else f"{reached} agents"
    return EventResponse(True, f"delivered to {agents}", {"delivered": reached})


def passed_on() -> EventResponse:
    """Return the answer for an event without an inbox that every mod passed on."""
    return EventResponse(True, "no mod answered, and it is addressed to nobody", {"delivered": 0})


def unknown_event(event_name: str, destination: Address | None) -> EventResponse:
    to = "nobody" if destination is None or destination.role == SYSTEM else str(destination)
    return failure(Code.UNKNOWN_EVENT, f"no mod handles {event_name!r} and it is addressed to {to}")


def merged(event: Event, changed: Event) -> Event:
    """Return the event that a mod passed on in place of ``event``.

    A mod may change the content. It cannot change the sender, or what the event is part of.
    """
    result = changed.copy()
    result.event_id, result.source_id, result.timestamp = event.event_id, event.source_id, event.timestamp
    result.source_agent_group, result.via, result.secret = event.source_agent_group, event.via, None
    result.cause, result.hops, result.attempt = event.cause, event.hops, event.attempt
    if result.event_name.startswith("system."):  # a mod cannot turn an event into a command
        result.event_name = event.event_name
    return result
