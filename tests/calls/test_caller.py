"""The way to one mod: who is sent when. The other end of the pipe is in this process."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from modvisor.ipc.event import Event
from modvisor.ipc.messages import Request
from modvisor.ipc.pipe import HIGH_WATER, Pipe
from modvisor.supervisor.calls.caller import Caller
from modvisor.supervisor.calls.counters import ModCounters
from modvisor.supervisor.calls.in_flight import InFlight
from modvisor.supervisor.calls.journey import Journey
from modvisor.supervisor.config.mods.mod import LimitsConfig, ModConfig
from modvisor.supervisor.process.crashes import CrashReport
from tests.conftest import until

pytestmark = pytest.mark.anyio


class NoLedger:
    def charge(self, journey: Journey) -> None: ...

    async def bury(self, journey: Journey, mod_id: str, reason: str, report: CrashReport | None) -> int | None: ...


class Worker:
    """Answers each event at once, and notes in which order they came."""

    def __init__(self) -> None:
        self.took: list[Any] = []
        ours, theirs = socket.socketpair()
        self.pipe = Pipe(theirs, on_request=self._take, on_notification=print, on_close=lambda _reason: None)
        near = Pipe(ours, on_request=print, on_notification=print, on_close=lambda _reason: None)
        self.in_flight = InFlight(near, self._why)

    def _take(self, request: Request) -> None:
        self.took.append(request.params["event"]["payload"]["n"])
        self.pipe.respond(request.id, {"response": {"success": True}})

    async def _why(self) -> str:
        return "it was asked to"


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    worker = Worker()
    yield worker
    worker.in_flight.pipe.close()
    worker.pipe.close()


def make_caller(**limits: Any) -> Caller:
    return Caller(ModConfig("./mod", "mod", limits=LimitsConfig(**limits)), ModCounters(), NoLedger())


def ask(caller: Caller, n: int, size: int = 0) -> asyncio.Task[Any]:
    event = Event("test.ask", "agent:alice", payload={"n": n, "blob": bytes(size)})
    return asyncio.create_task(caller.ask(Journey(event, math.inf)))


async def turn() -> None:
    """All that is ready runs once."""
    await asyncio.sleep(0)


async def test_nobody_overtakes_those_who_waited_for_a_process(worker: Worker) -> None:
    """They have their places, and their tasks have not run yet, when the next event comes."""
    caller = make_caller()
    tasks = [ask(caller, n) for n in range(3)]
    await turn()
    tasks += [ask(caller, n) for n in range(3, 6)]
    caller.open(worker.in_flight)
    await asyncio.gather(*tasks)
    assert worker.took == list(range(6))


async def test_an_event_that_is_given_up_just_as_it_has_its_place_hands_it_on(worker: Worker) -> None:
    caller = make_caller(concurrency=1)
    first = ask(caller, 0)
    await turn()
    late, last = ask(caller, 1), ask(caller, 2)
    caller.open(worker.in_flight)
    await turn()
    late.cancel()
    await asyncio.gather(first, last)
    assert worker.took == [0, 2]
    assert (caller.in_flight_count, caller.depth) == (0, 0)


async def test_nobody_overtakes_those_who_waited_for_the_pipe(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe has room again, and their tasks have not run yet, when the next events come."""
    caller, pipe = make_caller(), worker.in_flight.pipe
    caller.open(worker.in_flight)
    tasks = [ask(caller, 0, 2 * HIGH_WATER), ask(caller, 1), ask(caller, 2)]
    await turn()
    assert pipe.buffered > HIGH_WATER
    wake = pipe._wake_drain_waiters

    def wake_behind_others() -> None:
        if pipe.buffered <= HIGH_WATER and len(tasks) == 3:
            tasks.extend([ask(caller, 3), ask(caller, 4)])
        wake()

    monkeypatch.setattr(pipe, "_wake_drain_waiters", wake_behind_others)
    await until(lambda: len(tasks) == 5)
    await asyncio.gather(*tasks)
    assert worker.took == list(range(5))


async def test_one_that_gives_up_waiting_for_the_pipe_holds_up_nobody(worker: Worker) -> None:
    caller = make_caller()
    caller.open(worker.in_flight)
    first, late, last = ask(caller, 0, 2 * HIGH_WATER), ask(caller, 1), ask(caller, 2)
    await turn()
    late.cancel()
    await asyncio.gather(first, last)
    assert worker.took == [0, 2]
    assert (caller.in_flight_count, caller.depth) == (0, 0)


async def test_the_time_in_which_an_event_waits_for_the_pipe_is_its_own(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, pipe = make_caller(event_timeout=60.0), worker.in_flight.pipe
    caller.open(worker.in_flight)
    due: list[float] = []
    begin = pipe.begin_event
    monkeypatch.setattr(pipe, "begin_event", lambda packed, at: due.append(at) or begin(packed, at))
    tasks = [ask(caller, 0, 2 * HIGH_WATER), ask(caller, 1)]
    await turn()
    assert pipe.buffered > HIGH_WATER
    waits_since = asyncio.get_running_loop().time()
    await asyncio.gather(*tasks)
    assert due[-1] <= waits_since + 60.0
