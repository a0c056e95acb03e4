"""What is in flight at one incarnation: drains wait for it, and worker's events name it as their cause."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.ipc.event import Event
from modvisor.ipc.pipe import HIGH_WATER
from modvisor.supervisor.calls.in_flight import MAX_BATCHES, MAX_FINISHED, InFlight
from modvisor.supervisor.calls.journey import Journey

pytestmark = pytest.mark.anyio


async def _why() -> str:
    return "it was asked to"


def make(buffered: int = 0) -> InFlight:
    pipe: Any = SimpleNamespace(buffered=buffered)
    return InFlight(pipe, _why)


def sent(in_flight: InFlight, request_id: int, hops: int = 0) -> Journey:
    event = Event("test.ask", "agent:alice")
    event.hops = hops
    journey = in_flight.handling[request_id] = Journey(event, math.inf)
    return journey


async def is_drained(in_flight: InFlight) -> bool:
    drain = asyncio.create_task(in_flight.drained())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    done = drain.done()
    drain.cancel()
    return done


async def test_a_drain_waits_for_events_in_flight_and_for_granted_slots() -> None:
    in_flight = make()
    assert await is_drained(in_flight)
    in_flight.reserve()
    assert not await is_drained(in_flight)
    sent(in_flight, 1)
    in_flight.give_back()
    assert not await is_drained(in_flight)
    in_flight.finished(1)
    assert await is_drained(in_flight)


async def test_a_drain_goes_on_when_events_come_while_it_waits() -> None:
    in_flight = make()
    sent(in_flight, 1)
    drain = asyncio.create_task(in_flight.drained())
    await asyncio.sleep(0)
    in_flight.finished(1)
    sent(in_flight, 2)  # caused by the first one, before the drain resumes
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not drain.done()
    in_flight.finished(2)
    await drain


async def test_an_event_is_sent_at_once_only_if_none_waits_for_the_pipe() -> None:
    in_flight = make()
    assert in_flight.is_clear
    in_flight.pressing = 1
    assert not in_flight.is_clear
    assert not make(buffered=HIGH_WATER + 1).is_clear


async def test_a_cause_is_known_while_its_event_is_in_flight_and_for_long_after() -> None:
    in_flight = make()
    journey = sent(in_flight, 1, hops=3)
    event_id = journey.event.event_id
    assert in_flight.origin(1) == (event_id, 3, journey)
    in_flight.finished(1)
    assert in_flight.origin(1) == (event_id, 3, None)
    sent(in_flight, 1 + MAX_FINISHED)
    in_flight.finished(1 + MAX_FINISHED)
    assert in_flight.origin(1) is None, "a newer event has its place"
    assert in_flight.origin(1 + MAX_FINISHED) is not None


async def test_an_event_of_a_batch_of_copies_may_be_a_cause() -> None:
    in_flight = make()
    in_flight.copied(7, [{"event_id": "a"}, {"event_id": "b", "hops": 2}])
    assert in_flight.origin([7, 0]) == ("a", 0, None)
    assert in_flight.origin([7, 1]) == ("b", 2, None)
    for other in range(8, 8 + MAX_BATCHES):
        in_flight.copied(other, [{"event_id": "c"}])
    assert in_flight.origin([7, 0]) is None, "the oldest batch is forgotten"


@pytest.mark.parametrize("cause", [None, 5, -1, "1", [7, 2], [7, -1], [8, 0], [7], [7, "0"], {"7": 0}, 1.5])
async def test_a_cause_that_means_nothing_is_none(cause: Any) -> None:
    in_flight = make()
    in_flight.copied(7, [{"event_id": "a"}, {"event_id": "b"}])
    assert in_flight.origin(cause) is None
