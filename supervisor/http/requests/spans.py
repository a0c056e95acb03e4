"""The trace that a request is part of: events that it brings go on in it."""

from __future__ import annotations

from collections.abc import Mapping

from ....ipc.event import Event
from ...tracing import TRACEPARENT


def in_trace_of(event: Event, headers: Mapping[str, str]) -> None:
    """Have an event name the span of the request that brought it, unless its metadata name one.

    Whether that is a valid one, and heeded, the network decides as for metadata.
    """
    said = headers.get(TRACEPARENT)
    if said is not None:
        event.metadata.setdefault(TRACEPARENT, said)
