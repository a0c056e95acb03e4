"""The floor: two forked processes that pass bytes over a blocking socket pair. Nothing in Python is faster without spinning."""

from __future__ import annotations

import os
import signal
import socket
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .plan import Plan
from .timing import now, one_at_a_time, throughput
from .work import EVENT_SIZE

BLOBS = {"blob_1_MBps": 1024 * 1024, "blob_16_MBps": 16 * 1024 * 1024}


def fork_echo(size: int) -> tuple[socket.socket, int]:
    """A forked process that sends back every ``size`` bytes it gets: our end of its socket, its pid."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            buffer = bytearray(size)
            while theirs.recv_into(buffer, size, socket.MSG_WAITALL):
                theirs.sendall(buffer)
        finally:
            os._exit(0)
    theirs.close()
    return ours, pid


@contextmanager
def echoing(size: int) -> Iterator[Callable[[bytes], int]]:
    """To it and back: a function that returns how many bytes came."""
    ours, pid = fork_echo(size)
    buffer = bytearray(size)

    def call(data: bytes) -> int:
        ours.sendall(data)
        return ours.recv_into(buffer, size, socket.MSG_WAITALL)

    try:
        yield call
        assert call(data := os.urandom(size)) == size
        assert buffer == data
    finally:
        ours.close()
        os.waitpid(pid, 0)


def round_trip(seconds: float, size: int = EVENT_SIZE) -> dict[str, float]:
    """p50 and p99 in microseconds."""
    data = os.urandom(size)
    with echoing(size) as call:
        return one_at_a_time(call, lambda _, came: _whole(came, size), lambda: data, seconds)


def _whole(came: int, size: int) -> None:
    assert came == size, f"{came} of {size} bytes came back"


def events(plan: Plan) -> dict[str, float]:
    return {f"rtt_{name}": value for name, value in round_trip(plan.seconds).items()}


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
