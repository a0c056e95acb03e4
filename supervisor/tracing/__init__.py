"""One trace for an event: its sender, the network, each mod that is asked, and what the mod sends in turn.

May import: `config`, `ipc`.
Never: decides what becomes of an event. `otel` alone imports OpenTelemetry, only where `tracing.otlp` is set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .otel import Tracer
    from .parents import TRACEPARENT, Begun
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        otel="Tracer",
        parents="Begun TRACEPARENT",
    )
