"""Names the span in which an event is sent, where the program traces itself with OpenTelemetry."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

TRACEPARENT = "traceparent"
"""The key of an event's metadata, and its form, are those of W3C's Trace Context."""


def traced(metadata: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the metadata of an event with the span that is current, unless they name one or there is none.

    A program that traces itself has imported OpenTelemetry; for all others this is one look.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or (metadata is not None and TRACEPARENT in metadata):
        return metadata
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return metadata
    flags = int(span.trace_flags)
    return {**(metadata or {}), TRACEPARENT: f"00-{span.trace_id:032x}-{span.span_id:016x}-{flags:02x}"}
