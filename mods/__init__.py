"""The SDK, all that a mod imports: base class, decorator, events, errors, context."""

from ..ipc.errors import Code, InvalidEvent, ModvisorError, Refused
from ..ipc.event import Event, EventResponse
from ..ipc.partition import partition_of
from ..ipc.topic import check_pattern, matches
from .base import BaseMod
from .context import ModContext, ModFiles
from .handlers import mod_event_handler

__all__ = [
    "BaseMod",
    "Code",
    "Event",
    "EventResponse",
    "InvalidEvent",
    "ModContext",
    "ModFiles",
    "ModvisorError",
    "Refused",
    "check_pattern",
    "matches",
    "mod_event_handler",
    "partition_of",
]
