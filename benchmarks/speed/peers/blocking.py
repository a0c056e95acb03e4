"""What is the same for the peers with one worker process each that is called and blocks: events, life, memory, large ones."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from typing import Any, Protocol

from ..floor import BLOBS
from ..plan import Plan
from ..processes import own_memory
from ..timing import now, one_at_a_time, throughput, written_ahead
from ..work import Fields, blob, check, ping


class Worker(Protocol):
    """A worker that has answered once."""

    pid: int

    def submit(self, fields: Fields) -> Any: ...

    def collect(self, submitted: Any) -> Fields: ...

    def stop(self) -> None:
        """End it; it is gone when this returns."""
        ...


def measure(plan: Plan, start: Callable[[], Worker]) -> dict[str, float]:
    """All that such a peer does as ours does it."""
    worker = start()
    call = _caller(worker)
    for _ in range(plan.warm_up):
        call(ping())
    found = {f"rtt_{name}": value for name, value in one_at_a_time(call, _check, ping, plan.seconds).items()}
    for width in (64, 256):
        found[f"in_flight_{width}"] = written_ahead(
            worker.submit, lambda fields, it: _check(fields, worker.collect(it)), ping, width, plan.seconds
        )
    for key, size in BLOBS.items():
        data = os.urandom(size)
        assert call(blob(data))["data"]["blob"] == data
        found[key] = throughput(lambda data: len(call(blob(data))["data"]["blob"]), data, plan.seconds)
    worker.stop()
    return found | _life(plan, start)


def _life(plan: Plan, start: Callable[[], Worker]) -> dict[str, float]:
    starts, stops = [], []
    for _ in range(plan.cycles):
        begin = now()
        worker = start()
        starts.append(now() - begin)
        begin = now()
        worker.stop()
        stops.append(now() - begin)
    workers = [start() for _ in range(plan.workers)]
    idle = statistics.mean(own_memory(worker.pid) for worker in workers)
    for worker in workers:
        call = _caller(worker)
        for _ in range(plan.busy):
            call(ping())
    busy = statistics.mean(own_memory(worker.pid) for worker in workers)
    for worker in reversed(workers):  # a forked worker holds the ends of those before it
        worker.stop()
    return {
        "load_echo_ms": statistics.median(starts) * 1e3, "unload_ms": statistics.median(stops) * 1e3,
        "uss_idle_MB": idle, "uss_busy_MB": busy,
    }  # fmt: skip


def _caller(worker: Worker) -> Callable[[Fields], Fields]:
    return lambda fields: worker.collect(worker.submit(fields))


def _check(fields: Fields, response: Fields) -> None:
    check(fields, response["success"], response["data"])


def first(worker: Worker) -> None:
    """Its first answer."""
    fields = ping()
    _check(fields, worker.collect(worker.submit(fields)))
