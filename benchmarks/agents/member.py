"""A process of some agents, each with a WebSocket of its own.

    python -m benchmarks.agents.member PORT FOLDER FIRST COUNT ALL RATE

Killed at any moment and started again, it goes on by the diaries of its agents: it resumes with the
cursor of the last event that it has handled, and sends again, under the same id, what was not answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from .diary import Diary

CREDIT = 64
END = "end"  # the file that says when the run ends
PACKED = "modvisor.msgpack.v1"
PASSWORD_HASH = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"


class Member:
    """One agent. The odd ones speak JSON, the others msgpack."""

    def __init__(self, port: int, folder: Path, number: int, of: int, every: float) -> None:
        self._address, self._of, self._every = f"ws://127.0.0.1:{port}/ws", of, every
        self._name = name_of(number)
        self._form = "modvisor.json.v1" if number % 2 else PACKED
        self._diary = Diary(folder / f"{self._name}.diary")
        self._socket: ClientConnection | None = None
        self._handled = 0
        self._since = 0.0  # when the connection was there
        self._numbers: dict[int, str] = {}  # what each request in flight is about
        self._number = 1

    async def live(self) -> None:
        """Be connected, for ever."""
        while True:
            try:
                async with connect(
                    self._address, subprotocols=[Subprotocol(self._form)], compression=None, proxy=None, max_size=None
                ) as socket:
                    self._socket, self._handled = socket, 0
                    await self._talk()
            except (OSError, TimeoutError, ConnectionClosed, InvalidHandshake):
                self._socket = None
                await asyncio.sleep(random.uniform(0.05, 0.3))

    async def _talk(self) -> None:
        diary = self._diary
        if diary.secret:
            keys = {"type": "resume", "secret": diary.secret, "cursor": diary.cursor}
        else:
            keys = {"type": "register", "group": "members", "password_hash": PASSWORD_HASH}
        await self._say({**keys, "id": 0, "agent_id": self._name, "credit": CREDIT})
        welcome = await self._hear()
        if welcome["type"] != "welcome":
            raise SystemExit(f"{self._name}: {welcome}")
        self._since = time.time()
        if "secret" in welcome:
            diary.write("secret", welcome["secret"])
        for event, to in list(diary.unanswered.items()):
            await self._send(event, to)
        while True:
            await self._take(await self._hear())

    async def _take(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "events":
                for item in message["events"]:
                    event = item["event"]
                    at = event["payload"]["at"]
                    waited = f"{(time.time() - at) * 1000:.2f}" if at > self._since else "-"
                    self._diary.write("got", item["cursor"], event["event_id"], waited)
                self._handled += len(message["events"])
                if self._handled >= CREDIT // 4:
                    await self._say({"type": "ack", "cursor": self._diary.cursor})
                    await self._say({"type": "credit", "events": self._handled})
                    self._handled = 0
            case "response":
                if message["success"]:
                    self._diary.write("done", self._numbers.pop(message["id"]))
                elif message["error"] != "no_such_agent":  # it has not come yet; the event is sent again
                    raise SystemExit(f"{self._name}: {message}")
            case "dropped":
                self._diary.write("told", message["events"])

    async def speak(self, ends: float) -> None:
        """Send an event now and then, until the end of the run."""
        await asyncio.sleep(random.uniform(0, self._every))
        while time.time() < ends:
            to = name_of(random.randrange(self._of))
            if self._diary.secret and to != self._name:
                event = os.urandom(8).hex()
                self._diary.write("send", event, to)
                await self._try_to_send(event, to)
            await asyncio.sleep(self._every * random.uniform(0.8, 1.2))
        while True:  # the run's end waits for what was not answered
            await asyncio.sleep(1)
            for event, to in list(self._diary.unanswered.items()):
                await self._try_to_send(event, to)

    async def _try_to_send(self, event: str, to: str) -> None:
        try:
            if self._socket is not None:
                await self._send(event, to)
        except ConnectionClosed:
            pass  # it is sent again on the next connection

    async def _send(self, event: str, to: str) -> None:
        self._number += 1
        self._numbers[self._number] = event
        payload = {"at": time.time(), "text": "x" * 100}
        sent = {"event_name": "chat.message", "destination_id": to, "event_id": event, "payload": payload}
        await self._say({"type": "send", "id": self._number, "event": sent})

    async def _say(self, message: dict[str, Any]) -> None:
        assert self._socket is not None
        await self._socket.send(msgpack.packb(message) if self._form == PACKED else json.dumps(message))

    async def _hear(self) -> dict[str, Any]:
        assert self._socket is not None
        data = await self._socket.recv()
        return msgpack.unpackb(data, timestamp=3) if self._form == PACKED else json.loads(data)


def _end_of(folder: Path) -> float:
    """Return when the run ends; 0 while not all have come."""
    try:
        return float((folder / END).read_text() or 0)
    except FileNotFoundError:
        return 0.0


def name_of(number: int) -> str:
    return f"agent{number}"


async def main(port: int, folder: Path, first: int, count: int, of: int, rate: float) -> None:
    members = [Member(port, folder, number, of, of / rate) for number in range(first, first + count)]
    async with asyncio.TaskGroup() as tasks:
        for member in members:
            tasks.create_task(member.live())
        while not (ends := _end_of(folder)):  # noqa: ASYNC110 - another process says it
            await asyncio.sleep(0.1)
        for member in members:
            tasks.create_task(member.speak(ends))


if __name__ == "__main__":
    numbers = sys.argv[3:]
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), *map(int, numbers[:3]), float(numbers[3])))
