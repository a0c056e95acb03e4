"""Send events over HTTP: each agent on a connection that it keeps, one request at a time.

    python -m benchmarks.speed.http_client PORT DESTINATION AGENTS WARM_UP SECONDS

It prints a line when all agents are registered and have sent their share of `WARM_UP` events, waits
for a line, and prints how many answers came, and how long they took. Sockets and epoll are used
directly: the client must not be what is measured. Standard library only, the same for every network.
"""

from __future__ import annotations

import json
import re
import select
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection

from .timing import latencies, now
from .work import check, ping

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
PATIENCE = 10.0  # seconds without any answer


class Agent:
    """A registered agent, its connection, and the answer that it waits for."""

    def __init__(self, port: int, name: str, destination: str) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        body = json.dumps({"agent_id": name, "metadata": {}})
        connection.request("POST", "/api/register", body, {"Content-Type": "application/json"})
        registered = json.loads(connection.getresponse().read())
        assert registered["success"], registered
        self._given = {"source_id": name, "secret": registered["secret"], "target_agent_id": destination}
        self.socket = connection.sock
        self._connection = connection  # it would close the socket
        self._came = b""

    def ask(self) -> None:
        self._fields = fields = ping()
        event_id = "c" + fields["event_id"][1:]  # the network may have sent as many events itself
        event = {"event_name": fields["event_name"], "event_id": event_id, "payload": fields["payload"]}
        body = json.dumps(event | self._given)
        self._begin = now()
        self.socket.sendall(
            f"POST /api/send_event HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )

    def took(self) -> float | None:
        """Read what has come. Return the seconds that the answer took, if it is whole and right."""
        came = self.socket.recv(65536)
        assert came, "the network closed a connection"
        self._came += came
        head, end, body = self._came.partition(b"\r\n\r\n")
        length = LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return None
        took, self._came = now() - self._begin, b""
        answer = json.loads(body)
        check(self._fields, answer["success"], answer["data"])
        return took


def answered(agents: list[Agent], goes_on: Callable[[int], bool]) -> list[float]:
    """Keep all agents asking while `goes_on`, which is told how many answers came. Return their times."""
    by_socket, times = {agent.socket.fileno(): agent for agent in agents}, []
    with select.epoll() as poll:
        for number, agent in by_socket.items():
            poll.register(number, select.EPOLLIN)
            agent.ask()
        asking = len(agents)
        while asking:
            ready = poll.poll(PATIENCE)
            assert ready, f"no answer for {PATIENCE:g} s"
            for number, _ in ready:
                if (took := by_socket[number].took()) is not None:
                    times.append(took)
                    if goes_on(len(times)):
                        by_socket[number].ask()
                    else:
                        asking -= 1
    return times


def main(port: int, destination: str, count: int, warm_up: int, seconds: float) -> None:
    agents = [Agent(port, f"agent{number}", destination) for number in range(count)]
    answered(agents, lambda done: done < warm_up)
    print("ready", flush=True)
    sys.stdin.readline()
    end, used = now() + seconds, time.process_time()
    times = answered(agents, lambda done: now() < end)
    used = (time.process_time() - used) / len(times)
    print(json.dumps({"done": len(times), "cpu_us": used * 1e6, **latencies(times)}), flush=True)


if __name__ == "__main__":
    port, destination, count, warm_up, seconds = sys.argv[1:]
    main(int(port), destination, int(count), int(warm_up), float(seconds))
