"""The bytes between a supervisor and its workers, heard at the socket pair that both hold an end of.

Every stream socket pair that this process makes while a `Tap` listens is cut in two: a thread carries
bytes and descriptors from half to half, and writes the bytes down. It knows frames and msgpack, and no
class of the house.
"""

from __future__ import annotations

import array
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgpack

from .masks import Masks

TO_WORKER, TO_SUPERVISOR = "to worker", "to supervisor"
REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2
UNHEARD = {"ping"}  # come with the clock
_HEADER = struct.Struct(">I")
_AT_ONCE = 256 * 1024
_FDS = 4


class Wire:
    """One worker's pipe: a thread between its two ends, and the bytes of both ways."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self._ends = {near: (TO_WORKER, far), far: (TO_SUPERVISOR, near)}
        self._heard = {TO_WORKER: bytearray(), TO_SUPERVISOR: bytearray()}
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        open_ends = set(self._ends)
        while open_ends:
            for end in select.select(open_ends, [], [])[0]:
                way, other = self._ends[end]
                if not self._pass_on(end, other, self._heard[way]):
                    open_ends.discard(end)
                    with suppress(OSError):
                        other.shutdown(socket.SHUT_WR)
        for end in self._ends:
            end.close()

    @staticmethod
    def _pass_on(end: socket.socket, other: socket.socket, heard: bytearray) -> bool:
        """Pass on what has come. Return False at the end."""
        try:
            data, ancillary, _, _ = end.recvmsg(_AT_ONCE, socket.CMSG_SPACE(_FDS * 4), socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return False
        heard += data
        fds = array.array("i")
        for _, _, content in ancillary:
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
        with suppress(BrokenPipeError, ConnectionError):  # the other one has ended
            sent = socket.send_fds(other, [data], fds.tolist()) if fds else 0
            other.sendall(data[sent:])
        for fd in fds:
            socket.close(fd)
        return bool(data)

    def join(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive(), "a socket of a worker is still open"

    def bodies(self, way: str) -> Iterator[bytes]:
        """Yield the whole frames that went this way, without their lengths."""
        heard = bytes(self._heard[way])
        place = 0
        while len(heard) - place >= _HEADER.size:
            (length,) = _HEADER.unpack_from(heard, place)
            body = heard[place + _HEADER.size : place + _HEADER.size + length]
            if len(body) < length:
                return
            yield body
            place += _HEADER.size + length

    def messages(self, way: str) -> list[tuple[list[Any], bytes]]:
        return [(msgpack.unpackb(body, strict_map_key=False), body) for body in self.bodies(way)]

    @property
    def mod_id(self) -> str:
        loads = (m for m, _ in self.messages(TO_WORKER) if m[0] == REQUEST and m[2] == "load")
        return next((message[3]["mod_id"] for message in loads), "?")

    def answered(self, method: str) -> int:
        """Return how many requests of this method, either way, have their answer."""
        return sum(1 for way, back in _WAYS for number in self._asked(way, {method}) & self._answers(back))

    def sent(self, method: str) -> int:
        """Return how many requests of this method went to the worker, answered or not."""
        return len(self._asked(TO_WORKER, {method}))

    def _asked(self, way: str, methods: set[str]) -> set[int]:
        return {m[1] for m, _ in self.messages(way) if m[0] == REQUEST and m[2] in methods}

    def _answers(self, way: str) -> set[int]:
        return {m[1] for m, _ in self.messages(way) if m[0] == RESPONSE}

    def lines(self, masks: Masks) -> Iterator[dict[str, Any]]:
        """Yield each frame of both ways. Request ids count from 1 on each way, without those of pings."""
        numbers = {way: self._numbers(way) for way, _ in _WAYS}
        for way, back in _WAYS:
            for message, body in self.messages(way):
                of = numbers[back if message[0] == RESPONSE else way]
                if _number_in(message) not in {None, *of}:
                    continue  # about a ping
                shown = masks.value(_without_id(message, of, numbers[back]))
                yield {way: shown, **({"wide": wide} if (wide := list(unusual(body))) else {})}

    def _numbers(self, way: str) -> dict[int, int]:
        ids = [m[1] for m, _ in self.messages(way) if m[0] == REQUEST and m[2] not in UNHEARD]
        return {number: place for place, number in enumerate(ids, 1)}


_WAYS = ((TO_WORKER, TO_SUPERVISOR), (TO_SUPERVISOR, TO_WORKER))


def _number_in(message: list[Any]) -> int | None:
    """Return the id of a request or response, or that of the request which a cancel names."""
    if message[0] != NOTIFICATION:
        return message[1]
    return message[2]["id"] if message[1] == "cancel" else None


def _without_id(message: list[Any], own: dict[int, int], others: dict[int, int]) -> list[Any]:
    """Return the message with its own id, and those that it names, counted anew."""
    kind, *rest = message
    if kind == NOTIFICATION:
        method, params = rest
        return [kind, method, {**params, "id": own[params["id"]]} if method == "cancel" else params]
    number, *rest = rest
    if kind == REQUEST and isinstance(rest[1], dict) and isinstance(rest[1].get("cause"), int):
        rest = [rest[0], {**rest[1], "cause": others[rest[1]["cause"]]}]
    return [kind, own[number], *rest]


def unusual(body: bytes) -> Iterator[str]:
    """Yield the places of a frame where it is not written as msgpack's own packer writes it."""
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(body)
    packer = msgpack.Packer(datetime=True)

    def walk(place: str) -> Iterator[str]:
        begin = unpacker.tell()
        first = body[begin]
        if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
            count = unpacker.read_map_header()
            usual = packer.pack_map_header(count)
            inside = [f"{place}.{kind}{n}" for n in range(count) for kind in ("key", "")]
        elif 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
            count = unpacker.read_array_header()
            usual = packer.pack_array_header(count)
            inside = [f"{place}.{n}" for n in range(count)]
        else:
            usual, inside = packer.pack(unpacker.unpack()), []
        if body[begin : unpacker.tell()] != usual:
            yield place or "."
        for each in inside:
            yield from walk(each)

    return walk("")


class Tap:
    """Listen on the pipes of all workers that are started meanwhile."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self._make = socket.socketpair

    def __enter__(self) -> Tap:
        socket.socketpair = self._pair  # type: ignore[assignment]
        return self

    def __exit__(self, *error: object) -> None:
        socket.socketpair = self._make

    def _pair(self, *how: Any, **more: Any) -> tuple[socket.socket, socket.socket]:
        if how or more:  # the pipe of a worker is a plain pair
            return self._make(*how, **more)
        ours, near = self._make()
        far, theirs = self._make()
        self.wires.append(Wire(near, far))
        return ours, theirs

    def of(self, mod_id: str) -> Wire:
        """Return the newest incarnation's."""
        return [wire for wire in self.wires if wire.mod_id == mod_id][-1]

    def lines(self, masks: Masks) -> Iterator[dict[str, Any]]:
        for number, wire in enumerate(self.wires, 1):
            wire.join()
            yield {"worker": number, "of": wire.mod_id}
            yield from wire.lines(masks)
