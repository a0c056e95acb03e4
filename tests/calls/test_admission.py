"""Which events a mod may handle now, and which wait. The incarnations are fake: nothing is sent."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event
from modvisor.supervisor.calls.admission import Admission, Queue, Unanswered
from modvisor.supervisor.calls.in_flight import InFlight
from modvisor.supervisor.calls.journey import Journey
from modvisor.supervisor.config import LimitsConfig, ModConfig

pytestmark = pytest.mark.anyio

AWAY = ModvisorError("mod work is quarantined", code=Code.MOD_AWAY)


class Mod(Admission):
    """Admits events and notes in which order; `leave` frees a slot."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(ModConfig("./work", "work", limits=LimitsConfig(**limits)))
        self.admitted: list[int] = []
        self._requests = 0

    async def come(self, n: int, kind: Queue = Queue.WAITING, *, first: bool = False, **more: Any) -> Journey:
        journey = event(n, **more)
        in_flight = await self._admit(journey, kind, first=first)
        in_flight.give_back()
        self._requests += 1
        in_flight.handling[self._requests] = journey
        self.admitted.append(n)
        return journey

    def leave(self, journey: Journey) -> None:
        for in_flight in (self._in_flight, self._draining):
            for request_id, handled in list(in_flight.handling.items() if in_flight else ()):
                if handled is journey:
                    in_flight.finished(request_id)  # type: ignore[union-attr]
        self._leave(journey)


def event(n: int, *, size: int = 0, deadline: float = math.inf, parent: Journey | None = None) -> Journey:
    return Journey(Event("test.ask", "agent:alice", payload={"n": n, "text": "x" * size}), deadline, parent)


def incarnation() -> InFlight:
    async def why() -> str:
        return "it was asked to"

    pipe: Any = SimpleNamespace(buffered=0, closed=None)
    return InFlight(pipe, why)


async def settle() -> None:
    """Let every task run that is ready, and what it makes ready."""
    for _ in range(5):
        await asyncio.sleep(0)


def start(*coming: Any) -> list[asyncio.Task[Journey]]:
    return [asyncio.create_task(one) for one in coming]


async def test_events_are_admitted_in_order_of_arrival_and_at_most_so_many_at_once() -> None:
    mod = Mod(concurrency=2)
    mod.open(incarnation())
    tasks = start(*(mod.come(n) for n in range(5)))
    await settle()
    assert (mod.admitted, mod.in_flight_count, mod.depth) == ([0, 1], 2, 3)
    mod.leave(tasks[0].result())
    await settle()
    assert mod.admitted == [0, 1, 2]
    for n in (1, 2, 3, 4):
        mod.leave(await tasks[n])
        await settle()
    assert (mod.admitted, mod.in_flight_count, mod.depth) == ([0, 1, 2, 3, 4], 0, 0)


async def test_events_wait_while_no_incarnation_serves() -> None:
    mod = Mod()
    [task] = start(mod.come(0))
    await settle()
    assert (mod.admitted, mod.depth) == ([], 1)
    mod.open(incarnation())
    await task
    assert (mod.admitted, mod.depth) == ([0], 0)


async def test_an_event_that_finds_the_queue_full_is_refused() -> None:
    mod = Mod(queue=1)
    [waiting] = start(mod.come(0))
    await settle()
    assert not mod.takes(event(1))
    with pytest.raises(Unanswered, match="mod work is overloaded: 1 events of") as caught:
        await mod.come(1)
    assert caught.value.code == Code.OVERLOADED
    waiting.cancel()
    await settle()
    assert mod.depth == 0
    assert mod.takes(event(1))


async def test_the_queue_is_bounded_in_bytes_but_takes_one_event_of_any_size() -> None:
    mod = Mod(queue_bytes=4096)
    tasks = start(mod.come(0, size=100_000))
    await settle()
    with pytest.raises(Unanswered):
        await mod.come(1)
    tasks[0].cancel()
    await settle()
    tasks = start(mod.come(2, size=1000), mod.come(3, size=1000))
    await settle()
    assert mod.depth == 2
    mod.open(incarnation())
    await asyncio.gather(*tasks)


async def test_an_event_that_a_durable_mod_accepted_always_finds_room() -> None:
    mod = Mod(queue=0)
    journey = event(0)
    journey.seq = 7
    [task] = start(mod._admit(journey, Queue.WAITING))
    await settle()
    assert mod.depth == 1
    mod.open(incarnation())
    assert await task is mod._in_flight


async def test_an_event_that_gets_no_slot_in_time_times_out() -> None:
    mod = Mod()
    with pytest.raises(Unanswered, match="mod work: timed out waiting for a free slot") as caught:
        await mod.come(0, deadline=asyncio.get_running_loop().time())
    assert caught.value.code == Code.TIMEOUT
    assert mod.depth == 0


async def test_suspects_go_first_and_one_at_a_time_alone() -> None:
    mod = Mod(concurrency=10)
    tasks = start(
        mod.come(0), mod.come(1, Queue.AHEAD), mod.come(2, Queue.SUSPECT), mod.come(3, Queue.SUSPECT), mod.come(4)
    )
    await settle()
    mod.open(incarnation())
    await settle()
    assert mod.admitted == [2]
    mod.leave(tasks[2].result())
    await settle()
    assert mod.admitted == [2, 3]
    mod.leave(tasks[3].result())
    await settle()
    assert mod.admitted == [2, 3, 1, 0, 4]


async def test_a_suspect_waits_until_the_mod_handles_nothing_else() -> None:
    mod = Mod(concurrency=10)
    mod.open(incarnation())
    [first] = start(mod.come(0))
    await settle()
    start(mod.come(1, Queue.SUSPECT), mod.come(2))
    await settle()
    assert mod.admitted == [0], "a new event does not overtake the suspect"
    mod.leave(first.result())
    await settle()
    assert mod.admitted == [0, 1]


async def test_the_suspect_that_was_in_flight_is_blamed_for_the_end() -> None:
    mod, in_flight = Mod(), incarnation()
    mod.open(in_flight)
    [task] = start(mod.come(0, Queue.SUSPECT))
    journey = await task
    mod.lost(in_flight)
    assert in_flight._tried == [journey]
    assert [dead for _, dead in in_flight.dead] == [journey]
    assert mod.in_flight_count == 0

    alone = incarnation()
    other = Mod()
    other.open(alone)
    await other.come(0)
    other.lost(alone)
    assert alone._tried == [], "an event that is no suspect is not blamed"


async def test_a_consequence_of_an_event_in_flight_needs_no_slot() -> None:
    mod, in_flight = Mod(concurrency=1), incarnation()
    mod.open(in_flight)
    parent = await mod.come(0)
    assert mod._exempt_in_flight(event(1, parent=parent)) is in_flight
    assert mod.is_exempt(event(1, parent=event(2, parent=parent)))
    assert not mod.is_exempt(event(1, parent=event(2)))
    assert not mod.is_exempt(event(1))


async def test_a_consequence_goes_to_the_incarnation_that_drains() -> None:
    mod, old, new = Mod(), incarnation(), incarnation()
    mod.open(old)
    parent = await mod.come(0)
    assert mod.hold() is old
    assert mod._exempt_in_flight(event(1, parent=parent)) is old
    mod.open(new)
    assert not mod.is_exempt(event(1, parent=parent)), "the old incarnation serves no more"


async def test_a_mod_that_is_away_refuses_new_events_and_those_that_wait() -> None:
    mod = Mod()
    waiting, suspect = start(mod.come(0), mod.come(1, Queue.SUSPECT))
    await settle()
    mod.refuse(AWAY)
    failures = await asyncio.gather(waiting, suspect, mod.come(2), return_exceptions=True)
    assert [getattr(failure, "code", None) for failure in failures] == [
        Code.MOD_AWAY,
        Code.MOD_CRASHED,  # the mod may have done half of it
        Code.MOD_AWAY,
    ]
    assert (mod.depth, mod.away) == (0, AWAY)
    mod.open(incarnation())
    await mod.come(3)
    assert (mod.admitted, mod.away) == ([3], None)


async def test_a_drain_waits_for_an_event_that_has_its_slot_and_has_not_resumed() -> None:
    mod, in_flight = Mod(), incarnation()
    [task] = start(mod.come(0))
    await settle()
    mod.open(in_flight)
    assert mod.hold() is in_flight
    assert in_flight.is_busy
    await task
    assert mod.admitted == [0]
