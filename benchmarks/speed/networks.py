"""Measure a network that takes events with `process_event`: modvisor and OpenAgents."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from .calibration import Meter
from .plan import Plan
from .timing import Figures, awaited_trips, in_flight, lasting, latencies, lives, now
from .work import NEWS, Fields, check, ping

ROOT = Path(__file__).parent.parent.parent

Made = tuple[Fields, Any]


class Asked:
    """A running network, and the loops that measure it.

    Args:
        event: its class of events.
        echo: the destination that answers a `ping`.
    """

    def __init__(self, network: Any, event: Callable[..., Any], plan: Plan, echo: str = "mod:echo") -> None:
        self.network = network
        self.plan = plan
        self._event = event
        self._echo = echo

    def ping(self) -> Fields:
        return ping(self._echo)

    def made(self, fields: Fields) -> Made:
        """Return the fields with the event: what makes it is not measured with a round trip."""
        return fields, self._event(**fields)

    async def call(self, made: Made) -> Any:
        return await self.network.process_event(made[1])

    @staticmethod
    def check(made: Made, response: Any) -> None:
        check(made[0], response.success, response.data)

    async def ask(self, fields: Fields) -> None:
        """Send one event. Raise `WrongAnswer` if it is not answered as it should be."""
        response = await self.network.process_event(self._event(**fields))
        check(fields, response.success, response.data)

    async def warm_up(self, make: Callable[[], Fields] | None = None) -> None:
        await in_flight(self.ask, ((make or self.ping)() for _ in range(self.plan.warm_up)), 8)

    def pids(self) -> list[int]:
        """Return the processes of the mods, if they have any of their own."""
        return [mod["pid"] for mod in self.network.get_loaded_mods().values() if "pid" in mod]

    async def round_trips(self, name: str = "rtt") -> Figures:
        await self.warm_up()
        events = lasting(self.plan.seconds, lambda: self.made(self.ping()))
        with Meter(self.pids()) as meter:
            times = await awaited_trips(self.call, self.check, events)
        return meter.round_trips(name, times)

    async def throughput(self, key: str, width: int, make: Callable[[], Fields] | None = None) -> Figures:
        """Measure events per second with `width` in flight. Making the events counts."""
        await self.warm_up(make)
        with Meter(self.pids()) as meter:
            done = await in_flight(self.ask, lasting(self.plan.seconds, make or self.ping), width)
        return meter.throughput(key, done)

    async def timed_throughput(self, key: str, width: int) -> Figures:
        """Do the same, and take the time of each event."""
        await self.warm_up()
        with Meter(self.pids()) as meter:
            times = await self.times(lasting(self.plan.seconds, self.ping), width)
        return meter.throughput(key, len(times)) | {f"{key}_p99_us": latencies(times)["p99_us"]}

    async def times(self, events: Iterable[Fields], width: int) -> list[float]:
        """Send all events with `width` in flight. Return the seconds that each took."""
        found: list[float] = []

        async def send(fields: Fields) -> None:
            begin = now()
            await self.ask(fields)
            found.append(now() - begin)

        await in_flight(send, events, width)
        return found

    async def http(self, port: int) -> Figures:
        """Measure events per second of agents in another process, which use the port of the network."""
        plan = self.plan
        words = [port, self._echo, plan.agents_online, plan.warm_up, plan.seconds]
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "benchmarks.speed.http_client", *map(str, words))
        client = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
        assert client.stdin is not None
        assert client.stdout is not None
        await client.stdout.readline()  # it is warm
        with Meter(self.pids()) as meter:
            client.stdin.write(b"\n")
            told = json.loads(await client.stdout.readline())
        await client.communicate()
        found = meter.throughput("http_64", told.pop("done")) | {"http_client_us": told.pop("cpu_us")}
        return found | {f"http_{name}": value for name, value in told.items()}

    async def mod_lives(
        self,
        short: str,
        path: str,
        first: Callable[[], Awaitable[object]],
        after: Callable[[Any], None],
        ready: Callable[[], Awaitable[object]] | None = None,
        **entry: Any,
    ) -> Figures:
        """Measure from load to first answer, and the unload.

        Args:
            first: asks the mod once; `after`: gets the response to the load, after the unload.
            ready: waits until a load may begin.
        """
        loaded = None

        async def load() -> None:
            nonlocal loaded
            loaded = await succeed(self.network.load_mod(path, **entry))
            await first()

        async def unload() -> None:
            await succeed(self.network.unload_mod(path))
            after(loaded)

        start, stop = await lives(self.plan.cycles, load, unload, ready)
        return {f"load_{short}_ms": start, f"unload_{short}_ms": stop}

    async def fan_out(
        self,
        register: Callable[[str], Awaitable[Any]],
        poll: Callable[[str], Awaitable[list[Any]]],
        answer: Any = None,
    ) -> Figures:
        """Return deliveries per second to many inboxes. Emptying and comparing is not measured.

        Args:
            answer: the data of each response, if the network says how many inboxes there were.
        """
        plan, spent = self.plan, 0.0
        names = [f"reader{number}" for number in range(plan.receivers)]
        for name in names:
            await succeed(register(name))
        for _ in range(plan.issues):
            issue = [ping("agent:broadcast", NEWS) for _ in range(plan.news)]
            begin = now()
            for fields in issue:
                response = await succeed(self.network.process_event(self._event(**fields)))
                assert answer is None or response.data == answer, response
            spent += now() - begin
            sent = [fields["event_id"] for fields in issue]
            for name in names:
                assert [_id_of(event) for event in await poll(name)] == sent, f"the inbox of {name}"
        return {"fan_out": plan.issues * plan.news * plan.receivers / spent}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _id_of(event: Any) -> str:
    return event["event_id"] if isinstance(event, dict) else event.event_id


async def succeed(command: Awaitable[Any]) -> Any:
    """Return the response of a command, or of an event that must succeed."""
    response = await command
    assert response.success, response
    return response
