"""Show where each microsecond of a round trip goes.

    python -m benchmarks.speed.budget

Each step is taken alone, thousands of times in a row, so it finds its data in the cache: the sum is
a lower bound. `make cost` measures the whole: round trips and processor time of a real network.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import timeit
from collections.abc import Callable
from itertools import count

from rich.console import Console
from rich.table import Table

from modvisor.ipc.connection import Connection
from modvisor.ipc.event import Event, EventResponse
from modvisor.ipc.messages import pack
from modvisor.supervisor.calls.histogram import LatencyHistogram
from modvisor.supervisor.events.answers import Answers

from .floor import Echo, passed, pinned
from .timing import latencies, now, trips
from .work import EVENT_SIZE, ping

ROUNDS, NUMBER, TRIPS = 5, 20_000, 5_000


def microseconds(call: Callable[[], object]) -> float:
    return min(timeit.repeat(call, number=NUMBER, repeat=ROUNDS)) / NUMBER * 1e6


def steps() -> dict[str, float]:
    """Measure what is one call each, in the order of a round trip."""
    event, answer = Event(**ping()), EventResponse(True, data={"pong": 1})
    packed, keys, answers, histogram = pack(event.to_dict()), count(), Answers(), LatencyHistogram()
    core, worker = Connection(), Connection()
    number, question = core.event(packed)
    (request,) = worker.receive_data(question)
    reply_of = {"response": answer.to_dict()}
    reply = worker.respond(number, reply_of)
    core.receive_data(reply)

    def there_and_back() -> None:
        number, data = core.event(packed)
        worker.receive_data(data)
        core.receive_data(worker.respond(number, reply_of))

    def remember() -> None:
        key = ("agent:alice", str(next(keys)))
        answers.begins(key)
        answers.finish(key, answer, remember=reply)

    def through() -> None:
        here.send(question)
        there.recv(65536)

    here, there = socket.socketpair()
    with here, there, select.epoll() as poll:
        poll.register(there, select.EPOLLIN)
        return {
            "copy the event's own fields, not its payload": microseconds(event.twin),
            "pack": microseconds(lambda: pack(event.to_dict())),
            "frame, cut, decode and count question and answer": microseconds(there_and_back),
            "build and check the event in the worker": microseconds(lambda: Event.from_dict(request.params["event"])),
            "build and check the answer": microseconds(lambda: EventResponse.from_dict(reply_of["response"])),
            "remember the answer for retries": microseconds(remember),
            "count the latency": microseconds(lambda: histogram.add(50e-6)),
            "two send, two recv (no process sleeps)": 2 * microseconds(through),
            "one epoll by each loop": 2 * microseconds(lambda: poll.poll(0)),
            "wake a waiting task": asyncio.run(wake()),
        }


async def wake() -> float:
    """Set a future that a task waits for; two turns of the loop are included."""
    loop = asyncio.get_running_loop()
    begin = now()
    for _ in range(NUMBER):
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        await future
    return (now() - begin) / NUMBER * 1e6


def raw_awake() -> float:
    """Measure a round trip between two processes that wait awake, on a core each."""
    cores = sorted(os.sched_getaffinity(0))
    echo, data = Echo(EVENT_SIZE, core=cores[-1], awake=True), os.urandom(EVENT_SIZE)
    echo.socket.setblocking(False)

    def call(data: bytes) -> bytes:
        echo.socket.send(data)
        while True:
            try:
                return echo.socket.recv(EVENT_SIZE)
            except BlockingIOError:
                pass

    with pinned(cores[0]):
        times = trips(call, lambda *_: None, [data] * TRIPS)
    echo.stop()
    return latencies(times)["p50_us"]


def main() -> None:
    cores, found = sorted(os.sched_getaffinity(0)), steps()
    sections = [found, {"together": sum(found.values())}]
    asleep = latencies(passed(EVENT_SIZE, 1.0, cores[0], cores[-1]))["p50_us"]
    sections.append({"raw socket pair, both sleep": asleep, "raw socket pair, both wait awake": raw_awake()})
    table = Table("step", "µs", title="a round trip, step by step")
    for section in sections:
        for label, took in section.items():
            table.add_row(label, f"{took:.2f}")
        table.add_section()
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
