"""Agents that register and never read, and honest ones beside them."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from websockets.asyncio.client import ClientConnection, connect

from .member import PASSWORD_HASH
from .network import network

CONNECTION_KB = 100.0  # that a connection may cost: its objects, its buffers
MAIL_MB = 3 * 33.6  # `guest_inbox_bytes` of network.py, with what Python adds to packed bytes
TEXT = "x" * 2000
AT_ONCE = 10
TIMES, SHORTEST_MS = 4.0, 5.0  # the p99 of honest agents, compared with a quiet network


@dataclass
class Deafness:
    """What agents that never read did to the network and to honest agents."""

    agents: int
    sent: int = 0
    memory_mb: float = 0.0
    bound_mb: float = 0.0
    quiet_p99_ms: float = 0.0
    p99_ms: float = 0.0
    problems: list[str] = field(default_factory=list)


async def deafness(folder: Path, agents: int, seconds: float) -> Deafness:
    """Have so many agents listen to nothing while each is sent as much as fits into so many seconds."""
    summary = Deafness(agents, bound_mb=agents * CONNECTION_KB / 1000 + MAIL_MB)
    sockets: list[ClientConnection] = []
    async with network(folder) as (process, port):
        address = f"ws://127.0.0.1:{port}/ws"
        async with (
            connect(address, ping_interval=None, proxy=None) as sender,
            connect(address, ping_interval=None, proxy=None) as honest,
        ):
            await _register(sender, "sender", member=True)
            await _register(honest, "honest", member=True)
            summary.quiet_p99_ms = await _latency(sender, honest, seconds / 2)
            try:
                before = process.memory_info().rss
                for number in range(agents):
                    sockets.append(await connect(address, ping_interval=None, proxy=None))
                    await _register(sockets[-1], f"deaf{number}")
                    sockets[-1].transport.pause_reading()
                flood = asyncio.create_task(_flood(address, agents, seconds, summary))
                summary.p99_ms = await _latency(sender, honest, seconds)
                await flood
                summary.memory_mb = (process.memory_info().rss - before) / 1e6
                _judge(summary, process)
            finally:
                for socket in sockets:
                    socket.transport.abort()
    return summary


async def _register(socket: ClientConnection, agent_id: str, *, member: bool = False) -> None:
    keys = {"group": "members", "password_hash": PASSWORD_HASH} if member else {}
    await socket.send(json.dumps({"type": "register", "id": 1, "agent_id": agent_id, "credit": 64, **keys}))
    welcome = json.loads(await socket.recv())
    assert welcome["type"] == "welcome", welcome


async def _flood(address: str, agents: int, seconds: float, summary: Deafness) -> None:
    """Send to the deaf ones in turn, some at a time."""
    ends = time.monotonic() + seconds
    async with connect(address, ping_interval=None, proxy=None) as socket:
        await _register(socket, "flood", member=True)
        while time.monotonic() < ends:
            for _ in range(AT_ONCE):
                to = f"deaf{summary.sent % agents}"
                event = {"event_name": "chat.message", "destination_id": to, "payload": {"text": TEXT}}
                await socket.send(json.dumps({"type": "send", "id": summary.sent, "event": event}))
                summary.sent += 1
            for _ in range(AT_ONCE):
                await socket.recv()
            await asyncio.sleep(0.01)


async def _latency(sender: ClientConnection, honest: ClientConnection, seconds: float) -> float:
    """Return the p99 in milliseconds of an event from one agent to another."""
    waited: list[float] = []
    ends, number = time.monotonic() + seconds, 10
    while time.monotonic() < ends:
        began, number = time.monotonic(), number + 1
        event = {"event_name": "chat.message", "destination_id": "honest", "payload": {"n": number}}
        await sender.send(json.dumps({"type": "send", "id": number, "event": event}))
        pushed = json.loads(await honest.recv())
        await sender.recv()
        waited.append((time.monotonic() - began) * 1000)
        await honest.send(json.dumps({"type": "ack", "cursor": pushed["events"][-1]["cursor"]}))
        await honest.send(json.dumps({"type": "credit", "events": 1}))
        await asyncio.sleep(0.01)
    return sorted(waited)[int(0.99 * len(waited))]


def _judge(summary: Deafness, process: psutil.Process) -> None:
    quiet = max(SHORTEST_MS, summary.quiet_p99_ms)
    told = {
        f"the memory grew by {summary.memory_mb:.0f} MB": summary.memory_mb > summary.bound_mb,
        f"the p99 of honest agents grew to {summary.p99_ms:.1f} ms": summary.p99_ms > TIMES * quiet,
        "the network has ended": not process.is_running(),
    }
    summary.problems += [text for text, is_so in told.items() if is_so]
