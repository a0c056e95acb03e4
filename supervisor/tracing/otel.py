"""Spans by OpenTelemetry's SDK, sent to a collector by a thread of the SDK.

What a span says: names and ids, times, outcomes and error codes. Never a payload, nor a message,
which may quote one.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace import set_span_in_context as in_context

from ...ipc import __version__
from ...ipc.event import Event
from ..config import TracingConfig
from .parents import ROOT, Choice, Parent

PATIENCE = 5.0  # seconds that the collector has for one batch
LAST_PATIENCE = 2.0  # seconds that it has for all that is left when the network ends
BATCH = 512  # spans that are sent together

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class Tracer:
    """Begins the spans of events, and has them sent.

    Args:
        exporter: sends the spans; None: by OTLP over HTTP, as the config says. Headers, such as those that
            a collector wants for access, come from OpenTelemetry's own variables.

    Attributes:
        outcomes: how many spans were exported, and how many were lost since the collector failed.
    """

    def __init__(self, config: TracingConfig, network_id: str, exporter: SpanExporter | None = None) -> None:
        # It says itself what it cannot send, once per batch; the lines that it adds for each retry are noise.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)
        self.outcomes: Counter[str] = Counter(exported=0, lost=0)
        sending = exporter or OTLPSpanExporter(endpoint=config.otlp, timeout=PATIENCE)
        resource = Resource.create(
            {"service.name": "modvisor", "service.version": __version__, "service.instance.id": network_id}
        )
        # Each event was chosen before its span begins, also against the flag of a sender that asks for more.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
        counted = _Counting(sending, self.outcomes)
        self._provider.add_span_processor(
            BatchSpanProcessor(counted, max_queue_size=config.queue, max_export_batch_size=min(BATCH, config.queue))
        )
        self._tracer = self._provider.get_tracer("modvisor", __version__)
        self._choice = Choice(config)

    def begin(self, event: Event, cause: Parent | None, kind: str) -> TracedSpan | None:
        """Begin the span of an event on its way through the network; None: it is not traced.

        Args:
            cause: see `Choice.parent`.
            kind: a name of OpenTelemetry's kinds: ``server`` for an event from outside, else ``internal``.
        """
        parent = self._choice.parent(event.metadata, cause)
        if parent is None:
            return None
        attributes: dict[str, str | int] = {
            "messaging.system": "modvisor",
            "messaging.message.id": event.event_id,
            "modvisor.event": event.event_name,
            "modvisor.source": str(event.source or "system:system"),
        }
        if event.destination_id is not None:
            attributes["messaging.destination.name"] = event.destination_id
        return self.span(f"send {event.event_name}", kind, parent, attributes)

    def follow(self, event: Event) -> FollowedSpan | None:
        """Go on in the trace of an event that another node of the network has begun with; None: it is not traced."""
        parent = self._choice.followed(event.metadata)
        return None if parent is None else FollowedSpan(self, parent)

    def span(self, name: str, kind: str, parent: Parent, attributes: dict[str, str | int]) -> TracedSpan:
        context = None if parent is ROOT else in_context(NonRecordingSpan(_context_of(parent)))
        made = self._tracer.start_span(name, context, SpanKind[kind.upper()], attributes)
        return TracedSpan(self, made)

    def close(self) -> None:
        """Send the waiting spans, and end. Blocks, but not for long: a collector that is away does not get them."""
        ending = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        ending.start()
        ending.join(LAST_PATIENCE)


class TracedSpan:
    """A span that has begun; see `parents.Begun`."""

    __slots__ = ("_span", "_tracer", "parent")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        own = span.get_span_context()
        self._tracer = tracer
        self._span = span
        self.parent = Parent(f"{own.trace_id:032x}", f"{own.span_id:016x}", True)

    def child(self, name: str, kind: str, **attributes: str | int) -> TracedSpan:
        return self._tracer.span(name, kind, self.parent, _named(attributes))

    def end(self, outcome: str, *, failed: bool = False) -> None:
        if not self._span.is_recording():
            return
        self._span.set_attribute("modvisor.outcome", outcome)
        if failed:
            self._span.set_status(Status(StatusCode.ERROR, outcome))
        self._span.end()


class FollowedSpan:
    """A span that another node has begun, and ends; see `parents.Begun`."""

    __slots__ = ("_tracer", "parent")

    def __init__(self, tracer: Tracer, parent: Parent) -> None:
        self._tracer = tracer
        self.parent = parent

    def child(self, name: str, kind: str, **attributes: str | int) -> TracedSpan:
        return self._tracer.span(name, kind, self.parent, _named(attributes))

    def end(self, outcome: str, *, failed: bool = False) -> None:
        """Do nothing: the node that has begun the span ends it."""


class _Counting(SpanExporter):
    """Counts the spans that were exported, and those that were lost. Called by the SDK's thread."""

    def __init__(self, inner: SpanExporter, outcomes: Counter[str]) -> None:
        self._inner = inner
        self._outcomes = outcomes

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        self._outcomes["exported" if result is SpanExportResult.SUCCESS else "lost"] += len(spans)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _context_of(parent: Parent) -> SpanContext:
    return SpanContext(int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=_SAMPLED)


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"modvisor.{name}": value for name, value in attributes.items()}
