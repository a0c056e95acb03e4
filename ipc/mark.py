"""The mark of a worker: whose handler runs, in one page of a file that outlives the worker.

The worker maps the file and writes into it at each resumption of a handler, so this must cost next
to nothing: one number is written, and taken back when the step ends. The supervisor makes the file
and reads it after the worker's end. It never maps the file: a file that is cut off kills whoever
maps it. What it reads is a stranger's data, and names at most an event that was in flight.

Layout: 512 unsigned words of 8 bytes in the machine's byte order. A word that names a request holds
the request's id + 1, and 0 for none.

    word 0          `MAGIC`, written by the supervisor
    word 1          `CAUGHT`: the request whose handler called for the end of this process, or of the
                    network: os._exit, os.abort, os.kill. It stays.
    word 2          `LOOP`: the request whose step the event loop runs now
    word 3          `CROWDED`: 1, if more threads ran than there are words for
    word 4          `IN_USE`: 1, once the worker marks anything
    words 8 and on  pairs: a request whose code runs in a thread, and the thread's ident
"""

from __future__ import annotations

import struct
from typing import NamedTuple

SIZE = 4096
WORDS = SIZE // 8
MAGIC = int.from_bytes(b"mvmark01", "big")
CAUGHT, LOOP, CROWDED, IN_USE, FIRST_THREAD = 1, 2, 3, 4, 8

_PAGE = struct.Struct(f"={WORDS}Q")


class Marks(NamedTuple):
    """What a mark says. Requests by id; None: none.

    Attributes:
        threads: the request of each thread that runs code of one, by the thread's ident.
    """

    caught: int | None = None
    loop: int | None = None
    threads: dict[int, int] = {}  # noqa: RUF012 - a named tuple's default, never changed
    is_crowded: bool = False


def empty_page() -> bytes:
    """Return the content of a new file."""
    return _PAGE.pack(MAGIC, *(0,) * (WORDS - 1))


def read(page: bytes) -> Marks | None:
    """Return what the page says; None if the worker marks nothing."""
    if len(page) != SIZE:
        return None
    words = _PAGE.unpack(page)
    if words[0] != MAGIC or not words[IN_USE]:
        return None
    threads = {words[at + 1]: words[at] - 1 for at in range(FIRST_THREAD, WORDS, 2) if words[at]}
    return Marks(_request(words[CAUGHT]), _request(words[LOOP]), threads, words[CROWDED] != 0)


def _request(word: int) -> int | None:
    return word - 1 if word else None
