"""Agents that do what agents do, and note each time how long it took and whether they were refused."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from .client import PROXY, Client

PASSWORD = hashlib.sha256(b"open sesame").hexdigest()
AGENTS = 20
PAUSE = 0.05  # seconds between two events of an agent
NEWCOMER = 0.2  # seconds between two agents that come


@dataclass
class Notes:
    """What happened in one phase.

    Attributes:
        latencies: seconds of each event.
        health: seconds of each look at ``/api/health``.
        refused: what was refused, in words.
    """

    latencies: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


class Honest:
    """Twenty agents of a group with a password, one that looks at the health, and newcomers."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._numbers = count()
        self._heard: set[int] = set()
        self._listens = asyncio.Event()
        self.notes = Notes()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(1, AGENTS):
                tasks.create_task(self._noting(self._work(f"honest-{number}"), again=False))
            tasks.create_task(self._look())
            tasks.create_task(self._come())
            tasks.create_task(self._listen())

    async def _noting(self, what: Awaitable[None], *, again: bool = True) -> None:
        try:
            await what
        except (OSError, EOFError, ValueError, IndexError) as error:
            self.notes.refused.append(repr(error))

    async def _register(self, client: Client, name: str) -> str:
        body = {"agent_id": name, "password_hash": PASSWORD}
        status, answer = await client.request("POST", "/api/register", body)
        if status != 200:
            self.notes.refused.append(f"register {name}: {status} {answer}")
            raise OSError("not registered")
        return answer["secret"]

    async def _work(self, name: str) -> None:
        client = Client(self._port)
        secret = await self._register(client, name)
        sent = {"source_id": name, "secret": secret}
        while True:
            began = time.monotonic()
            await self._asked(client, {"event_name": "test.ping", "target_agent_id": "mod:echo", **sent})
            self.notes.latencies.append(time.monotonic() - began)
            await asyncio.sleep(PAUSE)

    async def _asked(self, client: Client, event: dict[str, Any]) -> None:
        status, answer = await client.request("POST", "/api/send_event", event)
        if status != 200 or not answer["success"]:
            self.notes.refused.append(f"{event['event_name']}: {status} {answer}")

    async def _look(self) -> None:
        client = Client(self._port)
        while True:
            began = time.monotonic()
            try:
                status, answer = await client.request("GET", "/api/health")
                if status != 200:
                    self.notes.refused.append(f"health: {status} {answer}")
            except (OSError, EOFError, ValueError, IndexError):
                client.close()  # an idle stranger may lose its connection, and comes again
                continue
            self.notes.health.append(time.monotonic() - began)
            await asyncio.sleep(0.02)

    async def _come(self) -> None:
        """Register one agent after another, each over a connection of its own."""
        await self._listens.wait()  # they send to whoever listens
        while True:
            client = Client(self._port)
            await self._noting(self._come_and_go(client, f"newcomer-{next(self._numbers)}"))
            client.close()
            await asyncio.sleep(NEWCOMER)

    async def _come_and_go(self, client: Client, name: str) -> None:
        sent = {"source_id": name, "secret": await self._register(client, name)}
        await self._asked(client, {"event_name": "test.ping", "target_agent_id": "mod:echo", **sent})
        number = next(self._numbers)
        note = {"event_name": "test.note", "target_agent_id": "honest-0", "payload": {"number": number}, **sent}
        await self._asked(client, note)
        await asyncio.sleep(0.3)
        if number not in self._heard:
            await asyncio.sleep(2)
        if number not in self._heard:
            self.notes.refused.append(f"message {number} to honest-0 did not come")
        await client.request("POST", "/api/unregister", {"agent_id": name, "secret": sent["secret"]})

    async def _listen(self) -> None:
        client = Client(self._port)
        secret = await self._register(client, "honest-0")
        self._listens.set()
        while True:
            path = f"/api/poll?agent_id=honest-0&secret={secret}&wait=1"
            status, answer = await client.request("GET", path)
            if status != 200 or not answer["success"]:
                self.notes.refused.append(f"poll: {status} {answer}")
            self._heard.update(
                each["payload"]["number"] for each in answer["messages"] if each["event_name"] == "test.note"
            )


async def crowd(port: int, size: int) -> list[str]:
    """Have so many agents with a group's password come at once behind one proxy.

    Returns:
        what was refused.
    """
    refused: list[str] = []

    async def come(name: str) -> None:
        client = Client(port, PROXY)
        try:
            status, answer = await client.request(
                "POST", "/api/register", {"agent_id": name, "password_hash": PASSWORD}
            )
            if status == 200:
                event = {"event_name": "test.ping", "target_agent_id": "mod:echo"}
                sent = {**event, "source_id": name, "secret": answer["secret"], "timeout": 60}
                status, answer = await client.request("POST", "/api/send_event", sent)
            if status != 200 or not answer["success"]:
                refused.append(f"{name}: {status} {answer}")
        except (OSError, EOFError, ValueError, IndexError) as error:
            refused.append(f"{name}: {error!r}")
        finally:
            client.close()

    await asyncio.gather(*(come(f"member-{number}") for number in range(size)))
    return refused
