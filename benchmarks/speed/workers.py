"""Measure a worker process whose caller blocks: a pipe, a pool, an actor."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any, Protocol

from .calibration import Meter
from .plan import Plan
from .processes import own_memory
from .timing import Figures, lasting, lives, megabytes_per_second, trips, written_ahead
from .work import BLOBS, Fields, blob, check, ping


class Worker(Protocol):
    """A worker that has answered once."""

    pid: int

    def submit(self, fields: Fields) -> Any: ...

    def collect(self, submitted: Any) -> Fields: ...

    def stop(self) -> None:
        """End the worker. Return when it is gone."""
        ...


Start = Callable[[], Worker]


async def measure(plan: Plan, start: Start) -> Figures:
    """Do all that such a worker can do of what a mod does."""
    worker = start()
    try:
        found = _events(plan, worker)
    finally:
        worker.stop()
    return found | await worker_lives(plan.cycles, start) | _memory(plan, [start() for _ in range(plan.workers)])


def _events(plan: Plan, worker: Worker) -> Figures:
    def call(fields: Fields) -> Fields:
        return worker.collect(worker.submit(fields))

    trips(call, _check, (ping() for _ in range(plan.warm_up)))
    with Meter([worker.pid]) as meter:
        times = trips(call, _check, lasting(plan.seconds, ping))
    found = meter.round_trips("rtt", times)
    for width in (64, 256):
        with Meter([worker.pid]) as meter:
            done = written_ahead(
                worker.submit, lambda fields, it: _check(fields, worker.collect(it)), lasting(plan.seconds, ping), width
            )
        found |= meter.throughput(f"in_flight_{width}", done)
    for key, size in BLOBS.items():
        data = os.urandom(size)
        assert call(blob(data))["data"]["blob"] == data
        times = trips(call, _check, lasting(plan.seconds, lambda data=data: blob(data), fewest=3))
        found[key] = megabytes_per_second(size, times)
    return found


async def worker_lives(cycles: int, start: Callable[[], Any]) -> Figures:
    """Measure from start to first answer, and from stop until the process is reaped."""
    running = []
    load, unload = await lives(cycles, lambda: running.append(start()), lambda: running.pop().stop())
    return {"load_echo_ms": load, "unload_echo_ms": unload}


def _memory(plan: Plan, workers: list[Worker]) -> Figures:
    idle = statistics.mean(own_memory(worker.pid) for worker in workers)
    for worker in workers:
        for _ in range(plan.busy):
            first(worker)
    busy = statistics.mean(own_memory(worker.pid) for worker in workers)
    for worker in reversed(workers):  # a forked worker holds the pipes of the workers before it
        worker.stop()
    return {"uss_idle_MB": idle, "uss_busy_MB": busy}


def _check(fields: Fields, response: Fields) -> None:
    check(fields, response["success"], response["data"])


def first(worker: Worker) -> None:
    """Have one event answered."""
    fields = ping()
    _check(fields, worker.collect(worker.submit(fields)))
