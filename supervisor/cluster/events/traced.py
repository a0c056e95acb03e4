"""Asks mods of other nodes as `NodeAsking` does, and has one trace lead over all nodes that an event comes by.

The node that asks records a span ``forward MOD`` until it has the answer. The event carries that span
in its metadata, and what the node of the mod records is part of it.

A network without traces has no such asking: its events cost what they cost before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ....ipc.event import EventResponse
from ...calls import Answer, Journey, Unanswered
from ...tracing import TRACEPARENT
from ..link.link import Link
from .asking import Holders, NodeAsking
from .frames import Question
from .passages import Passages

if TYPE_CHECKING:
    from ...tracing import Tracer


class TracedAsking(NodeAsking):
    """Records how long another node takes with an event that is traced."""

    def __init__(self, link: Link, holders: Holders, tracer: Tracer) -> None:
        super().__init__(link, holders)
        self.passages = TracedPassages(link.instance, tracer)

    async def ask(self, mod_id: str, part: int | None, journey: Journey) -> Answer:
        outer = journey.trace
        if outer is None:
            return await super().ask(mod_id, part, journey)
        holder = self._holders.holder_of(mod_id)
        where = {} if holder is None or not holder.node else {"node": holder.node}
        span = journey.trace = outer.child(f"forward {mod_id}", "client", mod=mod_id, **where)
        journey.mark(TRACEPARENT, str(span.parent))
        try:
            answer = await super().ask(mod_id, part, journey)
        except Unanswered as failure:
            span.end(str(failure.code), failed=True)
            raise
        except BaseException as error:
            span.end(type(error).__name__, failed=True)
            raise
        else:
            span.end("answered" if type(answer) is EventResponse else "passed")
            return answer
        finally:
            journey.trace = outer
            journey.mark(TRACEPARENT, str(outer.parent))


class TracedPassages(Passages):
    """Goes on in the trace of events that come from other nodes.

    Args:
        own: see `Passages`.
    """

    def __init__(self, own: str, tracer: Tracer) -> None:
        super().__init__(own)
        self._tracer = tracer

    def came(self, question: Question, journey: Journey) -> None:
        super().came(question, journey)
        journey.trace = self._tracer.follow(journey.event)
