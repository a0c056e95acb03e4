"""What a mod author sees: a base class, a decorator, events, and a narrow context."""

from ..ipc.errors import Refused
from ..ipc.event import Event, EventResponse
from ..ipc.partition import partition_of
from .base import BaseMod
from .context import ModContext
from .handlers import mod_event_handler

__all__ = ["BaseMod", "Event", "EventResponse", "ModContext", "Refused", "mod_event_handler", "partition_of"]
