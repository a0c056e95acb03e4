"""The loops that measure, the same for all: one at a time, many in flight, large ones. Standard library only."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

FEWEST = 3  # large payloads that are sent, however long they take

now = time.perf_counter


def latencies(times: Sequence[float]) -> dict[str, float]:
    """Seconds to the p50 and p99 in microseconds."""
    ordered = sorted(times)
    return {"p50_us": ordered[len(ordered) // 2] * 1e6, "p99_us": ordered[int(len(ordered) * 0.99)] * 1e6}


def lasting(seconds: float, make: Callable[[], T]) -> Iterator[T]:
    """One after the other, one at least, until the time is over."""
    end = now() + seconds
    yield make()
    while now() < end:
        yield make()


# -- where a call blocks


def one_at_a_time(
    call: Callable[[T], Any], check: Callable[[T, Any], object], make: Callable[[], T], seconds: float
) -> dict[str, float]:
    """Round trips; making the event and looking at the answer are not in it."""
    times = []
    for event in lasting(seconds, make):
        begin = now()
        answer = call(event)
        times.append(now() - begin)
        check(event, answer)
    return latencies(times)


def written_ahead(
    submit: Callable[[T], Any], collect: Callable[[T, Any], object], make: Callable[[], T], width: int, seconds: float
) -> float:
    """Events per second with ``width`` outstanding: the oldest is awaited, and another one sent."""
    waiting: deque[tuple[T, Any]] = deque()
    done, begin = 0, now()
    for event in lasting(seconds, make):
        waiting.append((event, submit(event)))
        if len(waiting) == width:
            collect(*waiting.popleft())
            done += 1
    while waiting:
        collect(*waiting.popleft())
        done += 1
    return done / (now() - begin)


def throughput(call: Callable[[bytes], int], data: bytes, seconds: float) -> float:
    """Megabytes of payload per second of round trips; ``call`` says how many bytes came back."""
    count, begin = 0, now()
    while count < FEWEST or now() - begin < seconds:
        assert call(data) == len(data)
        count += 1
    return len(data) * count / (now() - begin) / 1e6


# -- where it is awaited


async def one_at_a_time_awaited(
    call: Callable[[T], Awaitable[Any]], check: Callable[[T, Any], object], make: Callable[[], T], seconds: float
) -> dict[str, float]:
    """As `one_at_a_time`."""
    times = []
    for event in lasting(seconds, make):
        begin = now()
        answer = await call(event)
        times.append(now() - begin)
        check(event, answer)
    return latencies(times)


async def in_flight(send: Callable[[T], Coroutine[Any, Any, object]], events: Iterable[T], width: int) -> int:
    """Send them all, ``width`` at a time, each in a task of its own as a server does; returns how many there were.

    A task each for everybody: with a fixed number of senders, a network whose mods never suspend would have one event in
    flight however many there are.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    running: set[asyncio.Task[object]] = set()
    coming, done = iter(events), 0

    def go_on(former: asyncio.Task[object]) -> None:
        nonlocal done
        running.discard(former)
        if over.done():
            return
        if former.cancelled() or (error := former.exception()) is not None:
            over.set_exception(WasCancelled() if former.cancelled() else error)
            return
        done += 1
        start_one()

    def start_one() -> None:
        for event in coming:
            task = loop.create_task(send(event))
            running.add(task)
            task.add_done_callback(go_on)
            return
        if not running:
            over.set_result(None)

    for _ in range(width):
        if not over.done():
            start_one()
    try:
        await over
    finally:
        for task in running:
            task.cancel()
    return done


class WasCancelled(Exception):
    """Somebody has cancelled an event that is measured."""


async def per_second(
    send: Callable[[T], Coroutine[Any, Any, object]], make: Callable[[], T], width: int, seconds: float
) -> float:
    """Events per second with ``width`` in flight; making them is in it."""
    begin = now()
    done = await in_flight(send, lasting(seconds, make), width)
    return done / (now() - begin)


async def throughput_awaited(call: Callable[[bytes], Awaitable[int]], data: bytes, seconds: float) -> float:
    """As `throughput`."""
    count, begin = 0, now()
    while count < FEWEST or now() - begin < seconds:
        assert await call(data) == len(data)
        count += 1
    return len(data) * count / (now() - begin) / 1e6
