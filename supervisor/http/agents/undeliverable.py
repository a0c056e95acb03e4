"""What an agent is told of an event that the form which it asked for cannot carry."""

from __future__ import annotations

import logging

from ....ipc.errors import ModvisorError
from ....ipc.event import Event

logger = logging.getLogger("modvisor.http")

CANNOT_BE_WRITTEN = (ModvisorError, ValueError, OverflowError)
"""What writing an event raises. A timestamp that is no time raises one of the last two."""


def undeliverable(event: Event, agent_id: str, error: Exception) -> dict[str, str]:
    """Return what stands in the place of an event, and log it."""
    logger.error("event %s (%s) cannot be sent to agent %s: %s", event.event_id, event.event_name, agent_id, error)
    return {"event_id": event.event_id, "event_name": event.event_name, "error": str(error)}
