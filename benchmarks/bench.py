"""One echo mod, measured beside the raw socket pair of the same run.

    python benchmarks/bench.py [--rounds N] [--json FILE]

What is measured goes the whole way: ``network.process_event`` through gateway, router and port to a handler in a worker
process and back, with real `Event` and `EventResponse` objects, stats and heartbeats on. The floor is two forked processes
that pass the same number of bytes over a blocking socket pair. Rounds alternate between the two; figures are medians of the
rounds with their smallest and largest, and ratios are taken within a round, so that they hold when the machine's speed drifts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import statistics
import sys
import tempfile
import textwrap
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from ending import machine
from hot_reload import save_to_answer
from rich.console import Console
from rich.table import Table

from modvisor.ipc.messages import pack
from modvisor.supervisor import AgentNetwork, Event

ECHO = """
from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Echo(BaseMod):
    @mod_event_handler("bench.ping")
    async def ping(self, event):
        return EventResponse(True, data={"pong": event.payload["i"]})

    @mod_event_handler("bench.blob")
    async def blob(self, event):
        return EventResponse(True, data={"blob": event.payload["blob"]})
"""

SECONDS = 1.0  # per sequential and in-flight measurement
WIDTH = 64
CYCLES = 10  # of load and unload per round
SAVES = 5  # of a mod's file per round
WORKERS = 4  # alive at once when memory is measured
BLOB = 16 * 1024 * 1024
now = time.perf_counter

Figures = dict[str, float]


def ping_event(n: int) -> Event:
    return Event(
        "bench.ping", "agent:alice", "mod:echo", payload={"message": "hello world", "i": n & 127, "tags": ["a", "b"]}
    )


EVENT_SIZE = len(pack([0, 1, "event", {"event": ping_event(1).to_dict()}])) + 4


# -- the floor


def fork_echo(size: int) -> tuple[socket.socket, int]:
    """A forked process that sends back every ``size`` bytes it gets: our end of its socket, its pid."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        buffer = bytearray(size)
        try:
            while theirs.recv_into(buffer, size, socket.MSG_WAITALL):
                theirs.sendall(buffer)
        finally:
            os._exit(0)
    theirs.close()
    return ours, pid


@contextmanager
def raw_echo(size: int) -> Iterator[socket.socket]:
    ours, pid = fork_echo(size)
    try:
        yield ours
    finally:
        ours.close()
        os.waitpid(pid, 0)


def raw_recovery() -> float:
    """Seconds from the kill of such a process until another, forked when that one was reaped, has answered."""
    killed, pid = fork_echo(1)
    begin = now()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with raw_echo(1) as sock:
        sock.sendall(b"x")
        sock.recv(1)
        took = now() - begin
    killed.close()
    return took


def floor_round() -> Figures:
    figures: Figures = {}
    with raw_echo(EVENT_SIZE) as sock:
        data, times = os.urandom(EVENT_SIZE), []
        end = now() + SECONDS
        while (begin := now()) < end:
            sock.sendall(data)
            sock.recv(EVENT_SIZE, socket.MSG_WAITALL)
            times.append(now() - begin)
    figures |= latencies(times)
    with raw_echo(BLOB) as sock:
        data, buffer = os.urandom(BLOB), bytearray(BLOB)
        count, begin = 0, now()
        while count < 3 or now() - begin < SECONDS / 2:
            sock.sendall(data)
            sock.recv_into(buffer, BLOB, socket.MSG_WAITALL)
            count += 1
        figures["blob_MBps"] = BLOB * count / (now() - begin) / 1e6
    figures["recovery_ms"] = statistics.median(raw_recovery() for _ in range(CYCLES)) * 1e3
    return figures


# -- ours


async def sequential(network: AgentNetwork) -> Figures:
    times, n = [], 0
    end = now() + SECONDS
    while now() < end:
        event, n = ping_event(n), n + 1
        begin = now()
        response = await network.process_event(event)
        times.append(now() - begin)
        assert response.data == {"pong": event.payload["i"]}, response
    return latencies(times)


async def in_flight(network: AgentNetwork) -> Figures:
    done, end, begin = 0, now() + SECONDS, now()

    async def sender() -> None:
        nonlocal done
        while now() < end:
            event = ping_event(done)
            done += 1
            response = await network.process_event(event)
            assert response.success, response

    await asyncio.gather(*(sender() for _ in range(WIDTH)))
    return {f"per_second_{WIDTH}": done / (now() - begin)}


async def blobs(network: AgentNetwork) -> Figures:
    data = os.urandom(BLOB)
    count, begin = 0, now()
    while count < 3 or now() - begin < SECONDS / 2:
        response = await network.process_event(Event("bench.blob", "agent:alice", "mod:echo", payload={"blob": data}))
        assert len(response.data["blob"]) == BLOB
        count += 1
    return {"blob_MBps": BLOB * count / (now() - begin) / 1e6}


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    begin = now()
    await work()
    return now() - begin


async def lifecycle(network: AgentNetwork) -> Figures:
    """Load until the first answer, and unload until the process is reaped; then the memory of several at once."""
    starts, stops = [], []

    async def start(mod_id: str) -> None:
        assert (await network.load_mod("./echo", mod_id=mod_id)).success
        event = Event("bench.ping", "agent:alice", f"mod:{mod_id}", payload={"i": 1})
        assert (await network.process_event(event)).success

    for cycle in range(CYCLES):
        starts.append(await timed(lambda name=f"cycle{cycle}": start(name)))
        stops.append(await timed(lambda name=f"cycle{cycle}": network.unload_mod(name)))
    for n in range(WORKERS):
        await start(f"idle{n}")
    mods = network.get_loaded_mods()
    uss = [psutil.Process(mods[f"idle{n}"]["pid"]).memory_full_info().uss for n in range(WORKERS)]
    for n in range(WORKERS):
        await network.unload_mod(f"idle{n}")
    return {
        "load_ms": statistics.median(starts) * 1e3,
        "unload_ms": statistics.median(stops) * 1e3,
        "uss_MB": statistics.mean(uss) / 1e6,
    }


async def recovery(network: AgentNetwork) -> Figures:
    """Kill -9 until the next process has answered, without the pause that a restart policy makes before it."""
    restart = {"first_delay": 0, "max_delay": 0, "max_restarts": 10 * CYCLES}
    assert (await network.load_mod("./echo", mod_id="mortal", restart=restart)).success
    times = []

    async def kill_and_ask() -> None:
        os.kill(network.get_loaded_mods()["mortal"]["pid"], signal.SIGKILL)
        response = await network.process_event(Event("bench.ping", "agent:alice", "mod:mortal", payload={"i": 1}))
        assert response.success, response

    for _ in range(CYCLES):
        times.append(await timed(kill_and_ask))
    assert len(network.get_crashes("mortal")) == CYCLES
    await network.unload_mod("mortal")
    return {"recovery_ms": statistics.median(times) * 1e3}


async def our_round(folder: Path) -> Figures:
    async with AgentNetwork.from_config({"network": {"name": "bench"}, "mods": ["./echo"]}, base_dir=folder) as network:
        for n in range(2000):  # warm up
            await network.process_event(ping_event(n))
        figures = await sequential(network) | await in_flight(network) | await blobs(network)
        figures |= await lifecycle(network) | await recovery(network)
        saves = await save_to_answer(network, folder, SAVES)
        return figures | {"save_ms": statistics.median(saves) * 1e3}


# -- telling


def latencies(times: list[float]) -> Figures:
    ordered = sorted(times)
    return {"p50_us": ordered[len(ordered) // 2] * 1e6, "p99_us": ordered[int(len(ordered) * 0.99)] * 1e6}


ROWS = [
    ("round trip p50", "p50_us", "µs"),
    ("round trip p99", "p99_us", "µs"),
    (f"events/s, {WIDTH} in flight", f"per_second_{WIDTH}", "/s"),
    ("load to first answer", "load_ms", "ms"),
    ("unload, drained and reaped", "unload_ms", "ms"),
    ("recovery: kill -9 to first answer", "recovery_ms", "ms"),
    ("save to the first answer of the new code", "save_ms", "ms"),
    ("own memory (USS) per worker", "uss_MB", "MB"),
    ("16 MB echo", "blob_MBps", "MB/s"),
]


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.1f}  [dim]{min(values):,.1f} to {max(values):,.1f}[/dim]"


def report(ours: list[Figures], floor: list[Figures]) -> None:
    table = Table(title=f"one echo mod, event of {EVENT_SIZE} bytes, {len(ours)} rounds: median, smallest to largest")
    for heading in ("", "unit", "modvisor", "raw socket pair", "ratio"):
        table.add_column(heading, justify="left" if heading == "" else "right")
    for label, key, unit in ROWS:
        raw, ratio = "–", "–"
        if key in floor[0]:
            raw = spread([figures[key] for figures in floor])
            ratio = f"{statistics.median(a[key] / b[key] for a, b in zip(ours, floor, strict=True)):.2f} ×"
        table.add_row(label, unit, spread([figures[key] for figures in ours]), raw, ratio)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write every round's figures to this file")
    options = parser.parse_args()
    logging.getLogger("modvisor").setLevel(logging.ERROR)  # that killed processes have ended is no news here
    ours: list[Figures] = []
    floor: list[Figures] = []
    with tempfile.TemporaryDirectory(prefix="modvisor-bench-") as folder:
        mod = Path(folder, "mods", "echo", "mod.py")
        mod.parent.mkdir(parents=True)
        mod.write_text(textwrap.dedent(ECHO))
        for _ in range(options.rounds):
            floor.append(floor_round())
            ours.append(asyncio.run(our_round(Path(folder))))
    print(machine())
    report(ours, floor)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "modvisor": ours, "floor": floor}, indent=1) + "\n")


if __name__ == "__main__":
    main()
