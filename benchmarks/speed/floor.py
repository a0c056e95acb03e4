"""The floor: two forked processes that pass bytes over a blocking socket pair. Nothing in Python is faster without spinning."""

from __future__ import annotations

import os
import signal
import socket
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from .plan import Plan
from .timing import now, one_at_a_time, throughput
from .work import EVENT_SIZE

BLOBS = {"blob_1_MBps": 1024 * 1024, "blob_16_MBps": 16 * 1024 * 1024}


def fork_echo(size: int, *, awake: bool = False) -> tuple[socket.socket, int]:
    """A forked process that sends back every ``size`` bytes it gets: our end of its socket, its pid.

    Args:
        awake: it does not sleep until they come.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            buffer = bytearray(size)
            if awake:
                _echo_awake(theirs, buffer)
            while _fill(theirs, buffer):
                theirs.sendall(buffer)
        finally:
            os._exit(0)
    theirs.close()
    return ours, pid


def _fill(sock: socket.socket, buffer: bytearray) -> int:
    """Receive until it is full, or the other side is gone; returns how many bytes came."""
    count = sock.recv_into(buffer, 0, socket.MSG_WAITALL)
    while 0 < count < len(buffer):  # a signal came in between
        more = sock.recv_into(memoryview(buffer)[count:], 0, socket.MSG_WAITALL)
        if not more:
            break
        count += more
    return count


def _echo_awake(sock: socket.socket, buffer: bytearray) -> None:
    sock.setblocking(False)
    while True:
        with suppress(BlockingIOError):
            if not sock.recv_into(buffer):
                sock.setblocking(True)
                return
            sock.send(buffer)


@contextmanager
def _placed(cores: tuple[int, int] | None) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    if cores is not None:
        os.sched_setaffinity(0, {cores[0]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def echoing(size: int, core: int | None = None) -> Iterator[Callable[[bytes], int]]:
    """To it and back: a function that returns how many bytes came."""
    ours, pid = fork_echo(size)
    if core is not None:
        os.sched_setaffinity(pid, {core})
    buffer = bytearray(size)

    def call(data: bytes) -> int:
        ours.sendall(data)
        return _fill(ours, buffer)

    try:
        yield call
        assert call(data := os.urandom(size)) == size
        assert buffer == data
    finally:
        ours.close()
        os.waitpid(pid, 0)


def round_trip(seconds: float, cores: tuple[int, int] | None = None) -> dict[str, float]:
    """p50 and p99 in microseconds; on these ``cores``, ours first, or on those that the kernel chooses."""
    size, data = EVENT_SIZE, os.urandom(EVENT_SIZE)
    with _placed(cores), echoing(size, cores[1] if cores is not None else None) as call:
        return one_at_a_time(call, lambda _, came: _whole(came, size), lambda: data, seconds)


def _whole(came: int, size: int) -> None:
    assert came == size, f"{came} of {size} bytes came back"


def events(plan: Plan) -> dict[str, float]:
    """As the kernel likes to place the two, and placed: which of both it chooses makes most of the difference."""
    found = {f"rtt_{name}": value for name, value in round_trip(plan.seconds).items()}
    cores = sorted(os.sched_getaffinity(0))
    found["rtt_one_core_p50_us"] = round_trip(plan.seconds / 4, cores=(cores[0], cores[0]))["p50_us"]
    if len(cores) > 1:
        found["rtt_two_cores_p50_us"] = round_trip(plan.seconds / 4, cores=(cores[0], cores[1]))["p50_us"]
    return found


def blobs(plan: Plan) -> dict[str, float]:
    return {key: throughput_of(size, plan.seconds) for key, size in BLOBS.items()}


def throughput_of(size: int, seconds: float) -> float:
    """Megabytes of payload per second of round trips."""
    with echoing(size) as call:
        return throughput(call, os.urandom(size), seconds)


def life(plan: Plan) -> dict[str, float]:
    """A fork until its first answer, its end until it is reaped."""
    starts, stops = [], []
    for _ in range(plan.cycles):
        begin = now()
        sock, pid = fork_echo(1)
        _ask(sock)
        starts.append(now() - begin)
        begin = now()
        sock.close()
        os.waitpid(pid, 0)
        stops.append(now() - begin)
    return {"load_echo_ms": statistics.median(starts) * 1e3, "unload_ms": statistics.median(stops) * 1e3}


def recovery(plan: Plan) -> dict[str, float]:
    """From the kill of such a process until another one, forked when that was reaped, has answered."""
    times = []
    for _ in range(plan.cycles):
        killed, pid = fork_echo(1)
        _ask(killed)
        begin = now()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        sock, pid = fork_echo(1)
        _ask(sock)
        times.append(now() - begin)
        killed.close()
        sock.close()
        os.waitpid(pid, 0)
    return {"recovery_ms": statistics.median(times) * 1e3}


def _ask(sock: socket.socket) -> None:
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"


PARTS = {"events": events, "blobs": blobs, "life": life, "recovery": recovery}
