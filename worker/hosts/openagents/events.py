"""Their events and answers, made of ours, and ours made of theirs."""

from __future__ import annotations

from typing import Any

from openagents.models.event import Event as TheirEvent
from openagents.models.event import EventVisibility
from openagents.models.event_response import EventResponse as TheirResponse

from ....ipc.event import Event, EventResponse

# Fields of the same meaning. What only one side has gets its default on the other.
_SAME = ("requires_response", "response_to", "thread_name", "text_representation")
_OF_A_RESPONSE = ("success", "message", "data", "event_name")


def to_theirs(event: Event) -> TheirEvent:
    """Return the event as their mods get it. Payload and metadata are shared.

    It is not validated: the network has checked it already, and names that their grammar lacks are
    no reason to withhold it.
    """
    allowed = event.allowed_agents
    return TheirEvent.model_construct(
        event_name=event.event_name,
        event_id=event.event_id,
        source_id=event.source_id,
        destination_id=event.destination_id,
        timestamp=int(event.timestamp),
        payload=event.payload,
        metadata=event.metadata,
        visibility=event.visibility,
        allowed_agents=None if allowed is None else set(allowed),
        source_agent_group=event.source_agent_group,
        **{name: getattr(event, name) for name in _SAME},
    )


def to_ours(event: Any, source_id: str | None, destination_id: str | None) -> Event:
    """Return an event of their mod for the network: of their class, or of one with the same attributes.

    Raises:
        InvalidEvent, ValueError: a field that the network does not know.
    """
    allowed = event.allowed_agents
    return Event(
        event.event_name,
        source_id,
        destination_id,
        event_id=event.event_id,
        payload=event.payload,
        metadata=event.metadata,
        visibility=EventVisibility(event.visibility).value,  # the default is the member, not its text
        allowed_agents=None if allowed is None else sorted(allowed),
        **{name: getattr(event, name) for name in _SAME},
    )


def answer_of(answer: Any) -> EventResponse | None:
    """Return what their mod's answer means; None passes the event on.

    Their network ends the walk with whatever is not None. What is no response of theirs, nor looks
    like one, counts as a success if it is true; plain data becomes the data of the answer.
    """
    if answer is None:
        return None
    if isinstance(answer, TheirResponse) or all(hasattr(answer, name) for name in _OF_A_RESPONSE):
        return EventResponse(answer.success, answer.message, answer.data, answer.event_name)
    data = answer if type(answer) in (str, int, float, bytes, list, dict) else None
    return EventResponse(bool(answer), None if answer else f"the mod answered {answer!r}", data)


def to_their_response(response: EventResponse) -> TheirResponse:
    """Return the network's answer to an event of their mod."""
    return TheirResponse(
        success=response.success, message=response.message, data=response.data, event_name=response.event_name
    )
