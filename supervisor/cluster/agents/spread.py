"""Sees events to their responses in a network of several nodes: a delivery ends when each home has answered.

A network of one node has no such gateway: its events cost what they cost before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ....ipc.errors import Code
from ....ipc.event import Event, EventResponse
from ...agents import Receipt, Refusal, SharedAgents, no_such_agent
from ...events import Gateway

if TYPE_CHECKING:
    from ...events import Memory, Walk

_Outcome = tuple[int | None, Refusal | None]


class SpreadGateway(Gateway):
    """Waits for the other nodes before it says how many agents an event reached."""

    _agents: SharedAgents
    _sent: asyncio.Future[Receipt] | None = None
    _here: _Outcome = None, None
    _outcome: _Outcome | None = None

    async def _walk(self, walk: Walk, after: str | None = None) -> tuple[EventResponse, Memory]:
        answer = await super()._walk(walk, after)
        sent, self._sent = self._sent, None  # nothing has waited since the delivery
        if sent is None:
            return answer
        here = self._here
        receipt = await self._receipt_of(sent, walk.journey.deadline)
        self._outcome = self._joined(walk.journey.event, here, receipt)
        return self._deliver(walk)

    async def _receipt_of(self, sent: asyncio.Future[Receipt], deadline: float) -> Receipt | None:
        """Return what came of a delivery elsewhere; None: nobody knows before the sender's deadline."""
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(sent)  # a sender that gives up stops no delivery
        except TimeoutError:
            sent.add_done_callback(self._count_late)
            return None

    def _count_late(self, sent: asyncio.Future[Receipt]) -> None:
        if not sent.cancelled() and sent.exception() is None:
            self._count(sent.result())

    def _count(self, receipt: Receipt) -> None:
        self._counters.deliveries += receipt.reached
        self._counters.inbox_dropped += receipt.full

    def _to_inboxes(self, event: Event, share: str | None) -> _Outcome:
        """Deliver, and note what went to other nodes; or say what came of that."""
        if (outcome := self._outcome) is not None:
            self._outcome = None
            return outcome
        self._agents.outcome = None
        outcome = super()._to_inboxes(event, share)
        self._sent, self._here = self._agents.outcome, outcome
        return outcome

    def _joined(self, event: Event, here: _Outcome, receipt: Receipt | None) -> _Outcome:
        """Return what came of a delivery, here and elsewhere."""
        reached, refusal = here
        destination = event.destination
        if receipt is None:
            receipt = Receipt(lost=[str(destination)])
        else:
            self._count(receipt)
        if not reached:
            self._counters.delivered += receipt.reached > 0
        if destination is not None and destination.role == "agent" and destination.id != "broadcast":
            why = None if receipt.reached else _why(destination.id, receipt)
            return (receipt.reached, None) if why is None else (None, why)
        reached = (reached or 0) + receipt.reached
        if not reached and receipt.lost:
            return None, _too_late("the nodes where its agents are at home")
        return reached, refusal


def _why(agent_id: str, receipt: Receipt) -> Refusal | None:
    """Return why an event for one agent did not reach it; None: the agent does not want it."""
    if receipt.full:
        return Refusal(f"the inbox of agent {agent_id!r} is full", code=Code.INBOX_FULL)
    if receipt.gone:
        return no_such_agent(agent_id)
    if receipt.lost:
        return _too_late(f"the node where agent {agent_id!r} is at home")
    return None


def _too_late(what: str) -> Refusal:
    return Refusal(f"timed out waiting for {what}; the event may have reached them", code=Code.TIMEOUT)
