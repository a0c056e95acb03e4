"""The bodies that are being read: how large one may be, and how many bytes all of them together.

Rules:

- Who has not proved who it is may send `http.anonymous_body`. A secret in the headers is a proof, so
  is an earlier request on the same connection, or an agent that was lately seen at the same address:
  clients that send their secret in the body could not send a large event otherwise.
- A large body is read when there is room for all of it; until then its client waits. A small one is
  read at once. If small ones become too many, the one that takes longest has to go.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import Request

from ....ipc.errors import Code, ModvisorError
from ...config import HttpConfig
from ..content.as_json import from_json
from ..content.as_msgpack import from_msgpack, is_packed
from ..content.bodies import MAX_BODY, TooLarge, announced_length
from ..content.json_bounds import JsonBounds, is_within
from ..door.clients import IPAddress, counted_as
from ..door.connection import Connection, connection_of
from ..door.places import Rank

# No keys of the network file: `http.bodies` and `http.anonymous_body` bound what is read, and these say how.
LARGE_JSON = 256 * 1024  # bytes above which a body is parsed in a thread: it would keep the loop for a millisecond
REMEMBERED = 600.0  # seconds for which an address is known where an agent was seen
MOST_KNOWN = 10_000  # addresses, about 2 MB
PATIENCE = 15.0  # seconds that a large body waits for room; clients wait for an answer for 30 s and more
STEP = 1024 * 1024  # bytes; how the room of a body without a length grows

Parse = Callable[[bytes | bytearray], dict[str, Any]]


class Intake:
    """Reads the bodies of the agents' API.

    Args:
        limits: returns the limits in force.
        make_room: closes the connection whose body takes longest.
    """

    def __init__(self, limits: Callable[[], HttpConfig], make_room: Callable[[], None]) -> None:
        self._limits = limits
        self._make_room = make_room
        self._known: dict[str, float] = {}
        self._small = self._large = 0  # bytes
        self._line = anyio.Lock()  # large bodies wait in order
        self._freed = anyio.Event()
        self._parsing = anyio.CapacityLimiter(1)

    # -- whose bodies may be large

    def know(self, address: IPAddress | None) -> None:
        """Remember that an agent has proved at this address who it is."""
        if address is None:
            return
        name = counted_as(address)
        self._known.pop(name, None)  # the newest stand last
        self._known[name] = time.monotonic()
        if len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]

    def is_known(self, connection: Connection | None, address: IPAddress | None) -> bool:
        """Return whether whoever sends this is no stranger, as far as can be told before its body."""
        if address is None or (connection is not None and connection.rank in (Rank.AGENT, Rank.MEMBER)):
            return True
        seen = self._known.get(counted_as(address))
        return seen is not None and time.monotonic() - seen < REMEMBERED

    # -- reading

    async def read_json(self, request: Request, *, is_known: bool = False) -> dict[str, Any]:
        """Read the object in the body, JSON or msgpack; raises `TooLarge`, `BadBody`, or `busy`."""
        http = self._limits()
        parse = self._parser(request.headers)
        limit = MAX_BODY if is_known else http.anonymous_body
        try:
            announced = announced_length(request, limit)
            async with self._room(request, announced) as room:
                body = await self._read(request, limit, room)
                if len(body) <= LARGE_JSON:
                    return parse(body)
                return await self.in_thread(parse, body)
        except TooLarge as error:
            if is_known or error.details.get("limit") != limit:
                raise
            raise TooLarge(
                f"the body is larger than {limit} bytes, the most for a sender that has not proved who it is; send "
                "the agent's id and secret in the headers 'X-Agent-Id' and 'Authorization: Bearer SECRET'",
                limit=limit,
            ) from None

    def small_json(self, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
        """Return the object in a small body that has come; raises `TooLarge` or `BadBody`."""
        most = self._limits().json_values
        if is_packed(headers):
            return from_msgpack(body, most)
        if not is_within(body, most):
            JsonBounds(most).feed(body)
        return from_json(body, is_shallow=True)

    def _parser(self, headers: Mapping[str, str]) -> Parse:
        if is_packed(headers):
            return partial(from_msgpack, most=self._limits().json_values)
        return from_json

    async def _read(self, request: Request, limit: int, room: Room) -> bytearray:
        body = bytearray()
        bounds = None if is_packed(request.headers) else JsonBounds(self._limits().json_values)
        async for piece in request.stream():
            if len(body) + len(piece) > limit:
                raise TooLarge(f"the body is larger than {limit} bytes", limit=limit)
            if bounds is not None:
                bounds.feed(piece)
            room.hold(len(body) + len(piece))
            body += piece
        return body

    # -- room for all of them

    @asynccontextmanager
    async def _room(self, request: Request, announced: int) -> AsyncIterator[Room]:
        connection = connection_of(request)
        room = self.open_room(is_stranger=connection is not None and connection.rank is Rank.STRANGER)
        try:
            if announced > self._limits().anonymous_body:
                await self._wait_for(announced, room)
            yield room
        finally:
            self.close_room(room)

    def open_room(self, *, is_stranger: bool) -> Room:
        return Room(self, is_stranger)

    def close_room(self, room: Room) -> None:
        """Give the room back, which is empty then."""
        self._small -= room.small
        if room.large:
            self._large -= room.large
            self._freed.set()
            self._freed = anyio.Event()
        room.small = room.large = 0

    async def in_thread(self, parse: Parse, body: bytes | bytearray) -> dict[str, Any]:
        """Parse a large body in a thread, one at a time."""
        return await anyio.to_thread.run_sync(parse, body, limiter=self._parsing)

    async def _wait_for(self, size: int, room: Room) -> None:
        with suppress(TimeoutError), anyio.fail_after(PATIENCE):
            async with self._line:
                while not self.take_large(size, room):
                    await self._freed.wait()
                return
        raise _busy()

    def take_large(self, size: int, room: Room) -> bool:
        """Give room for a large body. Half of all room is for those who have proved who they are."""
        most = self._limits().bodies // (2 if room.is_stranger else 1)
        if self._large and self._large + size > most:  # a body of the largest size fits alone
            return False
        self._large += size
        room.large += size
        return True

    def take_small(self, size: int, room: Room) -> None:
        room.small += size
        self.keep(size)

    def keep(self, change: int) -> None:
        """Count bytes of small bodies. If they become too many, the slowest has to go."""
        self._small += change
        if change > 0 and self._small > self._limits().bodies // 4:
            self._make_room()


class Room:
    """The room that one body has.

    Attributes:
        small: bytes of a body that is small so far.
        large: bytes that are set aside for a large body.
    """

    def __init__(self, intake: Intake, is_stranger: bool) -> None:
        self._intake = intake
        self.is_stranger = is_stranger
        self.small = self.large = 0

    def hold(self, size: int) -> None:
        """Take room for `size` bytes in all; raises `busy`."""
        if size <= self.large:
            return
        if not self.large and size <= self._intake._limits().anonymous_body:
            self._intake.take_small(size - self.small, self)
        elif not self._intake.take_large(max(STEP, size - self.large), self):
            raise _busy()


def _busy() -> ModvisorError:
    return ModvisorError("the network is reading as many large bodies as it can; try again", code=Code.BUSY)
