"""Msgpack in pieces: what is large is never held as a whole. Pure, apart from the size of a file.

Bytes and texts are cut, and a `FileBytes` stands for the bytes of a file, which are read when they
are sent.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from .errors import BadUse
from .frames import CANNOT_TRAVEL

PIECE = 256 * 1024
"""Bytes of a piece."""

SMALL = 64 * 1024
"""Bytes of a value that is packed as it is."""


@dataclass(frozen=True)
class FileBytes:
    """The bytes of a file, as a value in a payload."""

    path: Path
    size: int

    @classmethod
    def of(cls, path: str | Path) -> FileBytes:
        """Look at a file.

        Raises:
            BadUse: it cannot be read, or is no file.
        """
        try:
            with open(path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
        except OSError as error:
            raise BadUse(f"file {path}: {error.strerror}") from error
        return cls(Path(path), size)


Piece = bytes | memoryview | FileBytes

_packer = msgpack.Packer(datetime=True, autoreset=True)


def pieces_of(value: Any) -> Iterator[Piece]:
    """Yield the msgpack of a value in pieces, small ones joined. Raise `BadUse` for one that cannot travel."""
    joined = bytearray()
    for piece in _checked(_parts(value)):
        if isinstance(piece, FileBytes) or len(piece) > SMALL:
            if joined:
                yield bytes(joined)
                joined.clear()
            yield piece
            continue
        joined += piece
        if len(joined) >= PIECE:
            yield bytes(joined)
            joined.clear()
    if joined:
        yield bytes(joined)


def _checked(parts: Iterator[Piece]) -> Iterator[Piece]:
    try:
        yield from parts
    except RecursionError:
        raise BadUse(CANNOT_TRAVEL.format("nested too deeply")) from None


def size_of(pieces: Iterable[Piece]) -> int:
    """Return how many bytes the pieces are together."""
    return sum(piece.size if isinstance(piece, FileBytes) else len(piece) for piece in pieces)


def _parts(value: Any) -> Iterator[Piece]:
    if isinstance(value, dict):
        yield _map_header(len(value))
        for key, item in value.items():
            yield _packed(key)
            yield from _parts(item)
    elif isinstance(value, list | tuple):
        yield _array_header(len(value))
        for item in value:
            yield from _parts(item)
    elif isinstance(value, FileBytes):
        yield _bin_header(value.size)
        yield value
    elif isinstance(value, memoryview) and not value.c_contiguous:
        yield from _parts(value.tobytes())
    elif isinstance(value, bytes | bytearray | memoryview) and memoryview(value).nbytes > SMALL:
        yield _bin_header(memoryview(value).nbytes)
        yield from _cut(value)
    elif isinstance(value, str) and len(value) > SMALL:
        data = _encoded(value)
        yield struct.pack(">BI", 0xDB, len(data))
        yield from _cut(data)
    else:
        yield _packed(value)


def _cut(data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    view = memoryview(data).cast("B")
    for at in range(0, len(view), PIECE):
        yield view[at : at + PIECE]


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadUse(CANNOT_TRAVEL.format(error.reason)) from None


def _packed(value: Any) -> bytes:
    try:
        return _packer.pack(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadUse(CANNOT_TRAVEL.format(error)) from error


def _map_header(count: int) -> bytes:
    return bytes((0x80 | count,)) if count < 16 else struct.pack(">BI", 0xDF, count)


def _array_header(count: int) -> bytes:
    return bytes((0x90 | count,)) if count < 16 else struct.pack(">BI", 0xDD, count)


def _bin_header(size: int) -> bytes:
    if size > 0xFFFFFFFF:
        raise BadUse(f"{size:,} bytes: a value of an event holds less than 4 GiB")
    return struct.pack(">BI", 0xC6, size)
