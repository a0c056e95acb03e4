"""Puts the events of a request into the trace that the request is part of."""

from __future__ import annotations

from collections.abc import Mapping

from ....ipc.event import Event
from ...tracing import TRACEPARENT


def in_trace_of(event: Event, headers: Mapping[str, str]) -> None:
    """Have an event name the span of the request that brought it, unless its metadata name one.

    The network decides whether the span is valid and used, as it does for metadata.
    """
    said = headers.get(TRACEPARENT)
    if said is not None:
        event.metadata.setdefault(TRACEPARENT, said)
