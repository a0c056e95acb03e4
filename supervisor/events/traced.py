"""Takes events through the network as `Gateway` does, and records a span of each that is traced.

A network without traces has no such gateway: its events cost what they cost before.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any

from ...ipc.event import EventResponse
from ..calls import Journey
from ..tracing import TRACEPARENT, Begun
from .gateway import Gateway
from .senders import INSIDE, Sender

if TYPE_CHECKING:
    from ..tracing import Tracer


class TracedGateway(Gateway):
    """Records the way of an event from its door to its response.

    Receivers find the span in the event's metadata, and may go on with the trace.

    Attributes:
        tracer: set before the first event.
    """

    tracer: Tracer

    def _process(self, journey: Journey, sender: Sender) -> CoroutineType[Any, Any, EventResponse]:
        cause = None if journey.parent is None or journey.parent.trace is None else journey.parent.trace.parent
        is_outside = sender.mod is None and sender is not INSIDE
        trace = self.tracer.begin(journey.event, cause, "server" if is_outside else "internal")
        if trace is None:
            return super()._process(journey, sender)
        return self._process_traced(journey, sender, trace)

    async def _process_traced(self, journey: Journey, sender: Sender, trace: Begun) -> EventResponse:
        journey.trace = trace
        journey.mark(TRACEPARENT, str(trace.parent))
        try:
            response = await super()._process(journey, sender)
        except BaseException as error:
            trace.end(type(error).__name__, failed=True)
            raise
        trace.end("done" if response.success else str(response.error), failed=not response.success)
        return response
