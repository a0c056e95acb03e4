"""Asks one mod about events as `Caller` does, and records spans of those that are traced.

A network without traces has no such caller: its events cost what they cost before.
"""

from __future__ import annotations

import asyncio
from types import CoroutineType
from typing import Any

from ...ipc.event import EventResponse
from ..config import ModConfig
from ..tracing import TRACEPARENT, Begun
from .admission import Unanswered
from .caller import Answer, Caller, Ledger
from .counters import ModCounters
from .in_flight import InFlight
from .journey import Journey


class TracedCaller(Caller):
    """Two spans for each mod that is asked: ``ask`` until the answer, and in it ``handle`` from the moment at
    which the event was sent to the worker. Between both begins, the event waited for a slot. An event that is
    given to a second process has a second ``handle``.
    """

    def __init__(self, config: ModConfig, counters: ModCounters, ledger: Ledger) -> None:
        super().__init__(config, counters, ledger)
        self._asking: dict[Journey, Begun] = {}

    def ask(self, journey: Journey, attempt: int = 1) -> CoroutineType[Any, Any, Answer]:
        if journey.trace is None:
            return super().ask(journey, attempt)
        return self._ask_traced(journey, journey.trace, attempt)

    async def _ask_traced(self, journey: Journey, outer: Begun, attempt: int) -> Answer:
        asking = journey.trace = outer.child(f"ask {self.mod_id}", "client", mod=self.config.name, worker=self.mod_id)
        self._asking[journey] = asking
        try:
            answer = await super().ask(journey, attempt)
        except Unanswered as failure:
            asking.end(str(failure.code), failed=True)
            raise
        except BaseException as error:
            asking.end(type(error).__name__, failed=True)
            raise
        else:
            asking.end("answered" if type(answer) is EventResponse else "passed")
            return answer
        finally:
            del self._asking[journey]
            journey.trace = outer
            journey.mark(TRACEPARENT, str(outer.parent))

    def _begin(
        self, in_flight: InFlight, journey: Journey, due: float | None = None
    ) -> tuple[int, asyncio.Future[Any]]:
        asking = self._asking.get(journey)
        if asking is None:
            return super()._begin(in_flight, journey, due)
        name = journey.event.event_name
        handling = asking.child(f"handle {name}", "server", mod=self.config.name, attempt=journey.attempt)
        journey.trace = handling
        journey.mark(TRACEPARENT, str(handling.parent))  # the mod may have spans of its own
        try:
            request_id, future = super()._begin(in_flight, journey, due)
        except BaseException as error:
            handling.end(type(error).__name__, failed=True)
            raise
        future.add_done_callback(lambda done: _handled(handling, done))
        return request_id, future


def _handled(handling: Begun, done: asyncio.Future[Any]) -> None:
    """End the span of a handler when its answer has come, or is no longer waited for."""
    if done.cancelled():
        handling.end("cancelled", failed=True)
    elif (error := done.exception()) is not None:
        handling.end(type(error).__name__, failed=True)
    elif (refused := done.result().error) is not None:
        handling.end(str(refused["code"]), failed=True)
    else:
        handling.end("done")
