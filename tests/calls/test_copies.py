"""The queue of copies for one mod: bounded in number and bytes, in order, each copy counted once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.messages import Request, weight
from modvisor.ipc.pipe import HIGH_WATER, Pipe
from modvisor.supervisor.calls import copies
from modvisor.supervisor.calls.copies import BATCH, BATCH_BYTES, CopyQueue
from modvisor.supervisor.calls.counters import ModCounters
from modvisor.supervisor.calls.in_flight import InFlight
from tests.conftest import until

pytestmark = pytest.mark.anyio


def event(n: int, size: int = 0) -> dict[str, Any]:
    return {"event_name": "a.b", "event_id": str(n), "payload": {"n": n, "blob": b"x" * size}}


class Observer:
    """The worker's end: takes batches, answers when it is told to."""

    def __init__(self) -> None:
        ours, self.sock = socket.socketpair()
        self.batches: list[Request] = []
        self.answering = True
        self.in_flight = InFlight(self._pipe(ours, lambda _request: None), self._why_ended)
        self.pipe = self._pipe(self.sock, self._take)

    def _pipe(self, sock: socket.socket, on_request: Any) -> Pipe:
        return Pipe(sock, on_request=on_request, on_notification=lambda _: None, on_close=lambda _: None)

    async def _why_ended(self) -> str:
        return "it ended"

    def _take(self, request: Request) -> None:
        self.batches.append(request)
        if self.answering:
            self.pipe.respond(request.id, {"failed": 0})

    @property
    def numbers(self) -> list[int]:
        return [copy["payload"]["n"] for batch in self.batches for copy in batch.params["events"]]


@pytest.fixture
async def observer() -> AsyncIterator[Observer]:
    made = Observer()
    yield made
    made.pipe.close()
    made.in_flight.pipe.close()


@given(
    st.lists(st.tuples(st.sampled_from(["observe", "notify"]), st.integers(0, 3000)), max_size=40),
    st.integers(1, 10),
    st.integers(1000, 8000),
)
def test_it_holds_no_more_than_it_may_and_counts_what_it_drops(
    copies_made: list[tuple[str, int]], size: int, max_bytes: int
) -> None:
    async def check() -> None:
        counters = ModCounters()
        queue = CopyQueue(size, counters, max_bytes)
        kept: list[tuple[str, dict[str, Any]]] = []
        for n, (method, blob) in enumerate(copies_made):
            made = event(n, blob)
            getattr(queue, method)(made)
            if weight(made) <= max_bytes:
                kept.append((method, made))
            assert len(queue) <= size
            assert queue.bytes <= max_bytes
        given_out = []
        while batch := queue._batch()[1]:
            given_out.extend(batch)
        assert queue.bytes == 0
        expected = [made for _, made in kept]
        assert given_out == expected[len(expected) - len(given_out) :], "the newest, in order"
        assert counters.observe_dropped == len(copies_made) - len(given_out)

    asyncio.run(check())


async def test_one_that_is_too_large_takes_no_others_with_it() -> None:
    counters = ModCounters()
    queue = CopyQueue(10, counters, 10_000)
    queue.observe(event(1))
    queue.observe(event(2, 20_000))
    assert len(queue) == 1
    assert counters.observe_dropped == 1


async def test_an_event_for_several_mods_is_weighed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed: list[int] = []
    monkeypatch.setattr(copies, "weight", lambda data: weighed.append(1) or weight(data))
    queues = [CopyQueue(10, ModCounters()) for _ in range(5)]
    for n in range(3):
        made = event(n)
        for queue in queues:
            queue.observe(made)
    assert len(weighed) == 3
    assert len({queue.bytes for queue in queues}) == 1


async def test_a_large_event_is_not_kept_for_its_weight() -> None:
    CopyQueue(10, ModCounters()).observe(event(1))
    CopyQueue(10, ModCounters()).observe(event(2, 1_000_000))
    assert copies._weighed[0]["event_id"] == "1"


async def test_a_source_that_floods_an_observer_pushes_out_only_its_own_copies(observer: Observer) -> None:
    queue = CopyQueue(10, ModCounters())
    for n in range(3):
        queue.observe({**event(n), "source_id": "agent:modest"})
    for n in range(100, 200):
        queue.observe({**event(n), "source_id": "agent:flood" if n % 2 else "agent:relayed", "via": "mod:flood"})
    feeding = asyncio.create_task(queue.feed(observer.in_flight))
    await until(lambda: not len(queue))
    await until(lambda: len(observer.numbers) == 10)
    assert observer.numbers == [0, 1, 2, *range(193, 200)]
    assert queue.counters.observe_dropped == 93
    feeding.cancel()


async def test_batches_are_bounded_in_number_and_bytes(observer: Observer) -> None:
    counters = ModCounters()
    queue = CopyQueue(10_000, counters)
    for n in range(600):
        queue.observe(event(n))
    for n in range(600, 640):
        queue.observe(event(n, 300_000))
    queue.observe(event(640, 3_000_000))
    feeding = asyncio.create_task(queue.feed(observer.in_flight))
    await until(lambda: counters.observed == 641)
    feeding.cancel()
    assert observer.numbers == list(range(641))
    sizes = [len(batch.params["events"]) for batch in observer.batches]
    assert sizes[:2] == [BATCH, BATCH]
    assert sizes[-1] == 1
    assert all(weight(batch.params["events"]) < 2 * BATCH_BYTES for batch in observer.batches[:-1])
    assert counters.observe_dropped == 0


async def test_one_batch_is_under_way_at_a_time(observer: Observer) -> None:
    counters = ModCounters()
    queue = CopyQueue(50, counters)
    observer.answering = False
    feeding = asyncio.create_task(queue.feed(observer.in_flight))
    queue.observe(event(0))
    await until(lambda: len(observer.batches) == 1)
    for n in range(1, 101):
        queue.observe(event(n))
    assert len(queue) == 50
    assert counters.observe_dropped == 50
    observer.answering = True
    observer.pipe.respond(observer.batches[0].id, None)
    await until(lambda: counters.observed == 51)
    assert observer.numbers == [0, *range(51, 101)]
    feeding.cancel()


async def test_nothing_is_sent_to_one_that_does_not_read(observer: Observer) -> None:
    counters = ModCounters()
    queue = CopyQueue(1000, counters, 5_000_000)
    asyncio.get_running_loop().remove_reader(observer.sock.fileno())
    ours = observer.in_flight.pipe
    ours.notify("note", {"blob": b"x" * (HIGH_WATER + 500_000)})
    feeding = asyncio.create_task(queue.feed(observer.in_flight))
    before = ours.buffered
    for n in range(100):
        queue.observe(event(n, 100_000))
        await asyncio.sleep(0)
    assert ours.buffered == before
    assert queue.bytes <= 5_000_000
    assert counters.observe_dropped > 0
    asyncio.get_running_loop().add_reader(observer.sock.fileno(), observer.pipe._readable)
    await until(lambda: counters.observed + counters.observe_dropped == 100)
    assert observer.numbers[-1] == 99
    feeding.cancel()
