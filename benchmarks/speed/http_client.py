"""Agents that send events over HTTP, each on a connection that it keeps. The same for every network.

    python -m benchmarks.speed.http_client PORT AGENTS SECONDS DESTINATION

It runs in a process of its own and does little more than copy bytes, so that the network is what is
measured. Prints one JSON object. A wrong answer ends it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .timing import latencies, now
from .work import check, ping

HEAD = (
    b"%b %b HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\nUser-Agent: speed\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
)
LENGTH = b"content-length:"
WARM_UP = 0.2  # seconds


class Connection(asyncio.Protocol):
    """A connection that asks for one thing at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._unread = b""
        self._loop = asyncio.get_running_loop()
        self._answer: asyncio.Future[tuple[bytes, Any]] = self._loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._unread += data
        head, blank, rest = self._unread.partition(b"\r\n\r\n")
        if not blank:
            return
        _, _, behind = head.lower().partition(LENGTH)
        if len(rest) >= int(behind.partition(b"\r\n")[0]):
            self._unread = b""
            self._answer.set_result((head[9:12], json.loads(rest)))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the network has closed the connection"))

    async def ask(self, method: bytes, path: bytes, body: bytes) -> Any:
        self._answer = self._loop.create_future()
        self.transport.write(HEAD % (method, path, self._port, len(body), body))
        status, answer = await self._answer
        assert status == b"200", (status, answer)
        return answer


class Agent:
    """A registered agent, which sends one event after the other."""

    def __init__(self, connection: Connection, name: str, secret: str, destination: str) -> None:
        self._connection = connection
        self._destination = destination
        self._common = {"source_id": name, "metadata": {}, "visibility": "network", "secret": secret}
        self.times: list[float] = []

    @classmethod
    async def register(cls, port: int, name: str, destination: str) -> Agent:
        _, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(port), "127.0.0.1", port)
        about = {"agent_id": name, "metadata": {}}
        answer = await connection.ask(b"POST", b"/api/register", json.dumps(about).encode())
        return cls(connection, name, answer["secret"], destination)

    async def send_until(self, end: float) -> None:
        while now() < end:
            # The network may have had the ids of `ping` from its own process, and would not process them again.
            fields = {**ping(self._destination), "event_id": os.urandom(16).hex()}
            body = {**fields, "target_agent_id": fields["destination_id"], **self._common}
            begin = now()
            answer = await self._connection.ask(b"POST", b"/api/send_event", json.dumps(body).encode())
            self.times.append(now() - begin)
            check(fields, answer["success"], answer["data"])

    def leave(self) -> None:
        self._connection.transport.close()


async def measure(port: int, count: int, seconds: float, destination: str) -> dict[str, float]:
    agents = [await Agent.register(port, f"speed{number}", destination) for number in range(count)]
    await _send(agents, WARM_UP)
    print("ready", flush=True)
    sys.stdin.readline()
    for agent in agents:
        agent.times.clear()
    begin = now()
    await _send(agents, seconds)
    took = now() - begin
    times = [each for agent in agents for each in agent.times]
    for agent in agents:
        agent.leave()
    return {"events": len(times), "seconds": took, **latencies(times)}


async def _send(agents: list[Agent], seconds: float) -> None:
    end = now() + seconds
    await asyncio.gather(*(agent.send_until(end) for agent in agents))


def main() -> None:
    port, count, seconds, destination = sys.argv[1:]
    loop = import_module("uvloop").new_event_loop if find_spec("uvloop") is not None else None
    with asyncio.Runner(loop_factory=loop) as runner:
        print(json.dumps(runner.run(measure(int(port), int(count), float(seconds), destination))))


if __name__ == "__main__":
    main()
