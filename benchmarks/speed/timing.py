"""The loops that measure, the same for everyone. Standard library only."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from inspect import isawaitable
from typing import Any, TypeVar

T = TypeVar("T")
Figures = dict[str, float]

now = time.perf_counter


def latencies(times: Sequence[float]) -> Figures:
    """Return the p50 and the p99 of these seconds, in microseconds."""
    ordered = sorted(times)
    return {"p50_us": ordered[len(ordered) // 2] * 1e6, "p99_us": ordered[int(len(ordered) * 0.99)] * 1e6}


def median_ms(times: Sequence[float]) -> float:
    return statistics.median(times) * 1e3


def lasting(seconds: float, make: Callable[[], T], fewest: int = 1) -> Iterator[T]:
    """Make one after the other until the time is over, `fewest` at least."""
    end, made = now() + seconds, 0
    while made < fewest or now() < end:
        yield make()
        made += 1


def trips(call: Callable[[T], Any], check: Callable[[T, Any], object], events: Iterable[T]) -> list[float]:
    """Return the time of each round trip. Making the event and checking the answer do not count."""
    times = []
    for event in events:
        begin = now()
        answer = call(event)
        times.append(now() - begin)
        check(event, answer)
    return times


async def awaited_trips(
    call: Callable[[T], Awaitable[Any]], check: Callable[[T, Any], object], events: Iterable[T]
) -> list[float]:
    """Do as `trips` does with a call that is awaited."""
    times = []
    for event in events:
        begin = now()
        answer = await call(event)
        times.append(now() - begin)
        check(event, answer)
    return times


def megabytes_per_second(size: int, times: Sequence[float]) -> float:
    """Return the bytes of payload per round trip, in MB/s."""
    return size * len(times) / sum(times) / 1e6


async def lives(
    cycles: int, start: Callable[[], Any], stop: Callable[[], Any], ready: Callable[[], Awaitable[object]] | None = None
) -> tuple[float, float]:
    """Start and stop `cycles` times, and once before. Return the medians in milliseconds.

    Args:
        ready: waits until a start may begin; that is not measured.
    """
    starts, stops = [], []
    for _ in range(cycles + 1):
        if ready is not None:
            await ready()
        for times, call in ((starts, start), (stops, stop)):
            begin = now()
            if isawaitable(done := call()):
                await done
            times.append(now() - begin)
    return median_ms(starts[1:]), median_ms(stops[1:])


def written_ahead(
    submit: Callable[[T], Any], collect: Callable[[T, Any], object], events: Iterable[T], width: int
) -> int:
    """With `width` outstanding, collect the oldest and submit the next. Return how many there were."""
    waiting: deque[tuple[T, Any]] = deque()
    done = 0
    for event in events:
        waiting.append((event, submit(event)))
        if len(waiting) == width:
            collect(*waiting.popleft())
            done += 1
    while waiting:
        collect(*waiting.popleft())
        done += 1
    return done


async def in_flight(send: Callable[[T], Coroutine[Any, Any, object]], events: Iterable[T], width: int) -> int:
    """Send all events, `width` at a time. Return how many there were.

    Each has a task of its own, as in a server. With a fixed number of senders, a network whose mods
    never suspend would have one event in flight, however many senders there are.
    """
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    running: set[asyncio.Task[object]] = set()
    coming, done = iter(events), 0

    def ended(task: asyncio.Task[object]) -> None:
        nonlocal done
        running.discard(task)
        if over.done():
            return
        if task.cancelled() or (error := task.exception()) is not None:
            over.set_exception(WasCancelled() if task.cancelled() else error)
            return
        done += 1
        start_one()

    def start_one() -> None:
        for event in coming:
            task = loop.create_task(send(event))
            running.add(task)
            task.add_done_callback(ended)
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
    """An event that is measured was cancelled."""
