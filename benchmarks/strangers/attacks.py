"""What strangers do, each in a process of its own.

python -m benchmarks.strangers.attacks NAME PORT SECONDS
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from .client import Client as AnyClient
from .client import head

MB = 1_000_000
_numbers = count()


class Client(AnyClient):
    """A client at the address of this attack: what one attack has used up, another one still has."""

    source = ""

    def __init__(self, port: int) -> None:
        super().__init__(port, self.source)


async def silent_connections(port: int) -> None:
    """4,500 connections that never send a byte, each opened again when it is closed."""

    async def hold() -> None:
        while True:
            client = Client(port)
            reader, _ = await client.open()
            await reader.read()
            client.close()

    await _many(4500, hold)


async def unfinished_bodies(port: int) -> None:
    """24 bodies of 62 MB that lack their end."""

    async def send() -> None:
        while True:
            client = Client(port)
            _, writer = await client.open()
            writer.write(head("POST", "/api/send_event", 62 * MB) + b'{"a": "')
            for _ in range(61):
                writer.write(b"x" * MB)
                await writer.drain()
            await asyncio.sleep(60)

    await _many(24, send)


async def large_json(port: int) -> None:
    """18 MB of small values, and bodies of 60 KB full of them."""

    async def post(size: int) -> None:
        client = Client(port)
        while True:
            reader, writer = await client.open()
            writer.write(head("POST", "/api/register", size) + b'{"a":[' + b"{}," * ((size - 8) // 3))
            await writer.drain()
            async with asyncio.timeout(5):
                await reader.read(4096)
            client.close()

    await _many(4, lambda: post(18 * MB), 8, lambda: post(60_000))


async def tiny_chunks(port: int) -> None:
    """Bodies in chunks of one byte, from 50 connections."""
    start = head("POST", "/api/register", 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    await _raw(port, 50, start + b"1\r\n \r\n" * 20_000)


async def pipelines(port: int) -> None:
    """100 requests at once on each of 100 connections, again and again."""
    await _raw(port, 100, head("GET", "/api/health", 0) * 100)


async def registrations(port: int) -> None:
    """As many guests as possible, with 15 KB of metadata, and with 0.9 MB."""

    async def register(size: int) -> None:
        client = Client(port)
        while True:
            body = {"agent_id": f"stranger-{next(_numbers)}", "metadata": {"text": "x" * size}}
            await client.request("POST", "/api/register", body)

    await _many(16, lambda: register(15_000), 4, lambda: register(900_000))


async def guesses(port: int) -> None:
    """Guesses of a group's password."""

    async def guess() -> None:
        client = Client(port)
        while True:
            password = hashlib.sha256(os.urandom(8)).hexdigest()
            body = {"agent_id": f"guesser-{next(_numbers)}", "agent_group": "members", "password_hash": password}
            await client.request("POST", "/api/register", body)

    await _many(16, guess)


async def subscriptions(port: int) -> None:
    """Guests that subscribe to 100,000 patterns each, and broadcast."""

    async def subscribe() -> None:
        client = Client(port)
        name = f"subscriber-{next(_numbers)}"
        sent: dict[str, Any] = {"source_id": name, "secret": await _registered(client, name)}
        for start in count(0, 5000):
            patterns = [f"a{number}.*" for number in range(start % 100_000, start % 100_000 + 5000)]
            payload = {"agent_id": name, "event_patterns": patterns}
            event = {"event_name": "system.subscribe_events", "payload": payload, **sent}
            await client.request("POST", "/api/send_event", event)
            note = {"event_name": "test.spam", "target_agent_id": "agent:broadcast", **sent}
            await client.request("POST", "/api/send_event", note)

    await _many(8, subscribe)


async def full_inboxes(port: int) -> None:
    """A flood of messages to an honest agent."""

    async def flood() -> None:
        client = Client(port)
        name = f"flooder-{next(_numbers)}"
        secret = await _registered(client, name)
        while True:
            event = {"event_name": "test.spam", "source_id": name, "secret": secret, "target_agent_id": "honest-0"}
            await client.request("POST", "/api/send_event", {**event, "payload": {"text": "x" * 2000}})

    await _many(4, flood)


async def held_polls(port: int) -> None:
    """A guest that holds 4,500 connections with long-polls."""
    client = Client(port)
    secret = await _registered(client, "holder")
    path = f"/api/poll?agent_id=holder&secret={secret}&wait=60"

    async def hold() -> None:
        while True:
            connection = Client(port)
            reader, writer = await connection.open()
            writer.write(head("GET", path, 0))
            await reader.read()
            connection.close()

    await _many(4500, hold)


async def web_pages(port: int) -> None:
    """Requests that a page of another site makes its visitors send."""

    async def post(**headers: str) -> None:
        client = Client(port)
        while True:
            status, _ = await client.request("POST", "/api/register", {"agent_id": f"page-{next(_numbers)}"}, **headers)
            if status == 200:
                print(f"a page registered an agent with {headers}", flush=True)

    form = {"Content-Type": "text/plain"}
    await _many(
        2, lambda: post(Host="evil.example"), 2, lambda: post(Origin="https://evil.example"), 2, lambda: post(**form)
    )


ATTACKS: dict[str, Callable[[int], Awaitable[None]]] = {
    each.__name__: each
    for each in (
        silent_connections, unfinished_bodies, large_json, tiny_chunks, pipelines, registrations, guesses,
        subscriptions, full_inboxes, held_polls, web_pages,
    )
}  # fmt: skip


async def _registered(client: Client, name: str) -> str:
    while True:
        status, answer = await client.request("POST", "/api/register", {"agent_id": name})
        if status == 200:
            return answer["secret"]
        await asyncio.sleep(0.2)


async def _raw(port: int, connections: int, sent: bytes) -> None:
    async def send() -> None:
        while True:
            client = Client(port)
            reader, writer = await client.open()
            writer.write(sent)
            await writer.drain()
            async with asyncio.timeout(5):
                await reader.read(1_000_000)
            client.close()

    await _many(connections, send)


async def _many(*groups: Any) -> None:
    """Run so many of each; one that the network throws out begins again."""

    async def again(what: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await what()
            except (OSError, EOFError, ValueError, IndexError, TimeoutError):
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        for number, what in zip(groups[::2], groups[1::2], strict=True):
            for _ in range(number):
                tasks.create_task(again(what))


def main() -> None:
    name, port = sys.argv[1:]
    Client.source = f"127.66.0.{list(ATTACKS).index(name) + 1}"
    os.nice(10)  # the machine is for the network and the honest agents
    asyncio.run(ATTACKS[name](int(port)))


if __name__ == "__main__":
    main()
