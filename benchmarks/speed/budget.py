"""Where each microsecond of a round trip goes.

    python -m benchmarks.speed.budget

Each step is taken alone, thousands of times in a row, so it finds its data in the cache: together they are a lower bound. What
is left of the CPU time that network and worker really spend is shown as what it is, the rest.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import statistics
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path
from time import process_time

import psutil
from rich.console import Console
from rich.table import Table

from modvisor.ipc.connection import Connection
from modvisor.ipc.event import Event, EventResponse
from modvisor.ipc.messages import pack
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.calls.histogram import LatencyHistogram
from modvisor.supervisor.events.answers import AnswerWindow

from .floor import fork_echo
from .timing import now
from .work import EVENT_SIZE, ping

ROUNDS, NUMBER, TRIPS = 5, 20_000, 5_000

Step = tuple[str, float]


def microseconds(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=NUMBER, repeat=ROUNDS)) / NUMBER * 1e6


def steps() -> list[Step]:
    """Those that are one call each, in their order."""
    event, answer = Event(**ping()), EventResponse(True, data={"pong": 1})
    packed = pack(event.to_dict())
    core, worker = Connection(), Connection()
    number, question = core.event(packed)
    reply_of = {"response": answer.to_dict()}
    asked = msgpack_request(worker, question)
    reply = worker.respond(number, reply_of)
    window, histogram = AnswerWindow(), LatencyHistogram()
    keys = iter(range(10**9))

    def remember() -> None:
        key = ("agent:alice", str(next(keys)))
        window.begins(key)
        window.finish(key, answer, remember=reply)

    def question_and_answer() -> None:
        """Both ways of both connections: framed, cut, decoded, counted."""
        number, data = core.event(packed)
        worker.receive_data(data)
        core.receive_data(worker.respond(number, reply_of))

    assert core.receive_data(reply)[0].result == reply_of
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    poll, buffer = select.epoll(), bytearray(65536)
    poll.register(there, select.EPOLLIN)

    def through() -> None:
        here.send(question)
        there.recv_into(buffer)

    found = [
        ("the event's own fields copied; its payload is not", microseconds(event.twin)),
        ("packed", microseconds(lambda: pack(event.to_dict()))),
        ("framed, cut, decoded and counted, question and answer", microseconds(question_and_answer)),
        ("built and checked in the worker", microseconds(lambda: Event.from_dict(asked))),
        ("the answer built and checked", microseconds(lambda: EventResponse.from_dict(reply_of["response"]))),
        ("remembered for retries", microseconds(remember)),
        ("its latency counted", microseconds(lambda: histogram.add(50e-6))),
        ("send and recv, twice (nobody sleeps)", 2 * microseconds(through)),
        ("epoll, asked once by either loop", 2 * microseconds(lambda: poll.poll(0))),
        ("a waiting task woken", asyncio.run(wake())),
    ]
    for sock in (here, there):
        sock.close()
    poll.close()
    return found


def msgpack_request(worker: Connection, question: bytes) -> dict[str, object]:
    (request,) = worker.receive_data(question)
    return request.params["event"]


async def wake() -> float:
    """A future is set, and the task that waits for it goes on: the two turns of the loop included."""
    loop = asyncio.get_running_loop()
    begin = now()
    for _ in range(NUMBER):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
    return (now() - begin) / NUMBER * 1e6


def raw(*, awake: bool) -> float:
    """Round trip of as many bytes between two processes on a core each, both waiting awake or both sleeping."""
    cores = sorted(os.sched_getaffinity(0))
    sock, pid = fork_echo(EVENT_SIZE, awake=awake)
    try:
        os.sched_setaffinity(0, {cores[0]})
        os.sched_setaffinity(pid, {cores[-1]})
        sock.setblocking(not awake)
        data, times = os.urandom(EVENT_SIZE), []
        for _ in range(TRIPS):
            begin = now()
            sock.send(data)
            receive(sock)
            times.append(now() - begin)
    finally:
        os.sched_setaffinity(0, cores)
        sock.close()
        os.waitpid(pid, 0)
    return statistics.median(times) * 1e6


def receive(sock: socket.socket) -> None:
    while True:
        try:
            sock.recv(EVENT_SIZE)
            return
        except BlockingIOError:
            pass


async def trips(polling: str) -> tuple[float, float, float]:
    """Of a round trip: its median, the network's own CPU time, the worker's; microseconds."""
    with tempfile.TemporaryDirectory() as storage:
        config = {"network": {"name": "budget", "storage": storage, "polling": polling}, "mods": ["./echo"]}
        async with AgentNetwork.from_config(config, base_dir=Path(__file__).parent) as network:
            worker = psutil.Process(network.get_loaded_mods()["echo"]["pid"])
            events = [Event(**ping()) for _ in range(2 * TRIPS)]
            for event in events[:TRIPS]:
                await network.process_event(event)
            times, ours, theirs = [], process_time(), sum(worker.cpu_times()[:2])
            for event in events[TRIPS:]:
                begin = now()
                await network.process_event(event)
                times.append(now() - begin)
            ours, theirs = process_time() - ours, sum(worker.cpu_times()[:2]) - theirs
    return statistics.median(times) * 1e6, ours / TRIPS * 1e6, theirs / TRIPS * 1e6


def main() -> None:
    table = Table("step", "us", title="a round trip, step by step")
    found = steps()
    for label, took in found:
        table.add_row(label, f"{took:.2f}")
    table.add_section()
    table.add_row("these together", f"{sum(took for _, took in found):.1f}")
    table.add_section()
    asleep, network_asleep, worker_asleep = asyncio.run(trips("off"))
    polled, _, _ = asyncio.run(trips("auto"))
    table.add_row("CPU time of the network, polling off", f"{network_asleep:.1f}")
    table.add_row("CPU time of the worker, polling off", f"{worker_asleep:.1f}")
    table.add_row("round trip, polling off", f"{asleep:.1f}")
    table.add_row("round trip, polling auto", f"{polled:.1f}")
    table.add_section()
    table.add_row("raw socket pair, both processes sleep", f"{raw(awake=False):.1f}")
    table.add_row("raw socket pair, both wait awake", f"{raw(awake=True):.1f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
