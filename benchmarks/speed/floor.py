"""The floor: two forked processes pass bytes over a socket pair. Only spinning is faster."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from .calibration import Meter
from .plan import Plan
from .rows import TWO_CORES
from .timing import Figures, lasting, latencies, median_ms, megabytes_per_second, now, trips
from .work import BLOBS, EVENT_SIZE
from .workers import worker_lives


class Echo:
    """A forked process that sends back every `size` bytes that it gets. It has answered once.

    Args:
        core: where it runs.
    """

    def __init__(self, size: int = 1, *, core: int | None = None) -> None:
        self.socket, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.socket.close()
                _serve(theirs, bytearray(size))
            finally:
                os._exit(0)
        theirs.close()
        self._buffer = bytearray(size)
        if core is not None:
            os.sched_setaffinity(self.pid, {core})
        data = os.urandom(size)
        assert self.call(data) == size
        assert self._buffer == data

    def call(self, data: bytes) -> int:
        """Send bytes there and back. Return how many came."""
        self.socket.sendall(data)
        return _fill(self.socket, self._buffer)

    def stop(self) -> None:
        self.socket.close()
        os.waitpid(self.pid, 0)


def _serve(sock: socket.socket, buffer: bytearray) -> None:
    while _fill(sock, buffer):
        sock.sendall(buffer)


def _fill(sock: socket.socket, buffer: bytearray) -> int:
    """Receive until the buffer is full, or the other side is gone. Return how many bytes came."""
    count = 0
    while count < len(buffer):  # a signal may cut a receive short
        came = sock.recv_into(memoryview(buffer)[count:] if count else buffer, 0, socket.MSG_WAITALL)
        if not came:
            break
        count += came
    return count


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Keep this process on one core meanwhile, or leave it where it is."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def passed(
    size: int, seconds: float, ours: int | None = None, theirs: int | None = None, fewest: int = 1
) -> list[float]:
    """Return the times of round trips of so many bytes, on these cores if any are given."""
    data = os.urandom(size)
    with pinned(ours):
        echo = Echo(size, core=theirs)
        try:
            return trips(echo.call, _whole, lasting(seconds, lambda: data, fewest))
        finally:
            echo.stop()


def _whole(data: bytes, came: int) -> None:
    assert came == len(data), f"{came} of {len(data)} bytes came back"


async def events(plan: Plan) -> Figures:
    """Measure round trips as the kernel places them, then on one core, then on a core each."""
    echo, data = Echo(EVENT_SIZE), os.urandom(EVENT_SIZE)
    with Meter([echo.pid]) as meter:
        times = trips(echo.call, _whole, lasting(plan.seconds, lambda: data))
    echo.stop()
    found = meter.round_trips("rtt", times)
    cores, seconds = sorted(os.sched_getaffinity(0)), plan.seconds / 4
    found["rtt_one_core_p50_us"] = latencies(passed(EVENT_SIZE, seconds, cores[0], cores[0]))["p50_us"]
    if len(cores) > 1:
        found[TWO_CORES] = latencies(passed(EVENT_SIZE, seconds, cores[0], cores[1]))["p50_us"]
    return found


async def blobs(plan: Plan) -> Figures:
    return {key: megabytes_per_second(size, passed(size, plan.seconds, fewest=3)) for key, size in BLOBS.items()}


async def life(plan: Plan) -> Figures:
    return await worker_lives(plan.cycles, Echo)


async def recovery(plan: Plan) -> Figures:
    """Measure from a kill until the next process, forked after the reaping, has answered."""
    times = []
    for _ in range(plan.cycles):
        killed = Echo()
        begin = now()
        os.kill(killed.pid, signal.SIGKILL)
        os.waitpid(killed.pid, 0)  # noqa: ASYNC222
        fresh = Echo()
        times.append(now() - begin)
        killed.socket.close()
        fresh.stop()
    return {"recovery_ms": median_ms(times)}


BESIDE: dict[str, Callable[[Plan], Awaitable[Figures]]] = {
    "polled": events,
    "blobs": blobs,
    "life": life,
    "recovery": recovery,
}
"""Our part to the part of the floor that is measured right before it."""
