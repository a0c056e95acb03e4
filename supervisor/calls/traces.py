"""What an incarnation leaves on disk for the case that it dies, or the supervisor: two small files.

- ``ID.NUMBER.mark``: the worker marks there whose handler runs (`ipc.mark`). It is read when the
  incarnation has ended.
- ``ID.NUMBER.sent``, of a durable mod: which events were sent to the worker, and with which attempt.
  It is written before an event is sent, so that no event is repeated as if it were new. It costs
  one system call an event.

Both lie in the state directory and survive ``kill -9`` of the supervisor. The next supervisor reads
what it finds there (`left_by_last_run`) before it starts a mod. The files of an incarnation that
ended in this run are removed when the journal has noted what follows from its end.

The files only add evidence. If they cannot be written (the disk is full), the network goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...ipc import mark
from ...ipc.errors import ModvisorError
from ..journal import BOOT_ID, Begun, BegunTogether

logger = logging.getLogger("modvisor.traces")

_HEAD = struct.Struct("=16s48s")  # what the file is; the boot in which it was written
_KIND = b"modvisor sent 1\0"
_ENTRY = struct.Struct("=QQQ")  # a request's id + 1, the event's number in the journal, its attempt

ENDED = 256
"""Places whose events have ended that are freed together, with one wait for the journal."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_NAME = re.compile(r".+\.\d+\.sent")


class Traces:
    """The two files of one incarnation.

    Args:
        stem: both files without their endings.

    Attributes:
        committed: waits until the journal has committed all that was recorded; None: nobody knows.
    """

    committed: Callable[[], Awaitable[None]] | None = None

    def __init__(self, stem: Path, *, durable: bool) -> None:
        self._mark = stem.with_name(f"{stem.name}.mark")
        self._sent = stem.with_name(f"{stem.name}.sent") if durable else None
        self._fd = -1
        self._places: dict[int, int] = {}  # of the events in flight, by request id
        self._ended: list[int] = []  # places of events whose end is perhaps not committed yet
        self._free: list[int] = []
        self._freeing: asyncio.Task[None] | None = None
        self._used = 0  # places, free ones included
        self.has_mark = self._write_mark()
        """Whether there is a file for the worker's mark."""

    @property
    def mark_file(self) -> Path:
        return self._mark

    def _write_mark(self) -> bool:
        """Write the whole page, so that the disk has room for it: the worker maps the file."""
        try:
            try:
                fd = os.open(self._mark, _NEW, 0o600)
            except FileNotFoundError:
                self._mark.parent.mkdir(exist_ok=True, mode=0o700)
                fd = os.open(self._mark, _NEW, 0o600)
            try:
                os.write(fd, mark.empty_page())
            finally:
                os.close(fd)
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s): after a crash, nobody knows which handler ran", self._mark, error
            )
            return False
        return True

    def marks(self) -> mark.Marks | None:
        """Return what the worker has marked; None if it marks nothing."""
        return _read_mark(self._mark) if self.has_mark else None

    # -- events sent

    def sends(self, request_id: int, seq: int, attempt: int) -> None:
        """Note that a durable event is about to be sent."""
        if self._sent is None:
            return
        place = self._place_of(request_id)
        try:
            if self._fd < 0:
                self._open(self._sent)
            os.pwrite(self._fd, _ENTRY.pack(request_id + 1, seq, attempt), _HEAD.size + place * _ENTRY.size)
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s): after a kill, events may be repeated as if new", self._sent, error
            )
            self._sent = None

    def _place_of(self, request_id: int) -> int:
        place = self._places.get(request_id)  # known, if the request was not sent after all
        if place is None:
            if not self._free:
                self._free.append(self._used)
                self._used += 1
            place = self._places[request_id] = self._free.pop()
        return place

    def done(self, request_id: int) -> None:
        """Note that a request has ended.

        Its place in the file is written over when the journal has committed the answer, and not
        before: after a kill in between, the event is repeated, and must not look as if new.
        """
        if (place := self._places.pop(request_id, None)) is None:
            return
        self._ended.append(place)
        if len(self._ended) >= ENDED and self._freeing is None and self.committed is not None:
            self._freeing = asyncio.get_running_loop().create_task(self._free_ended(self.committed))

    async def _free_ended(self, committed: Callable[[], Awaitable[None]]) -> None:
        ended, self._ended = self._ended, []
        try:
            await committed()
            self._free += ended
        except ModvisorError:  # the journal is closed: the network ends
            self._ended += ended
        finally:
            self._freeing = None

    def _open(self, file: Path) -> None:
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        os.pwrite(self._fd, _HEAD.pack(_KIND, BOOT_ID.encode()), 0)

    # -- the end

    def close(self) -> None:
        """Close the file; it stays for the next supervisor."""
        if self._freeing is not None:
            self._freeing.cancel()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._sent = -1, None

    async def remove_after(self, exited: Awaitable[Any], reported: Awaitable[Any]) -> None:
        """Remove the files when the incarnation has ended and the journal has noted all of it.

        If the network ends before, the next supervisor reads them.
        """
        try:
            await asyncio.shield(exited)
            await asyncio.shield(reported)
            await asyncio.sleep(0)  # the events in flight take note of the end first
            await asyncio.sleep(0)
            with suppress(ModvisorError):
                if self.committed is not None:
                    await self.committed()
                self.remove()
        finally:
            self.close()

    def remove(self) -> None:
        """Remove both files: the journal has noted what was in them."""
        sent = self._sent or self._mark.with_suffix(".sent")
        self.close()
        for file in (self._mark, sent):
            with suppress(OSError):
                file.unlink()


def left_by_last_run(folder: Path) -> list[BegunTogether]:
    """Return the durable events that the workers of the last run had in hand, one group each."""
    return [found for file in _files(folder) if _NAME.fullmatch(file.name) and (found := _group(file)) is not None]


def forget_last_run(folder: Path) -> None:
    """Remove the files of the last run: the journal has noted what was in them."""
    for file in _files(folder):
        with suppress(OSError):
            file.unlink()


def _files(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from sorted(folder.iterdir())


def _group(file: Path) -> BegunTogether | None:
    try:
        data = file.read_bytes()
    except OSError as error:
        logger.warning("%s cannot be read (%s): events may be repeated as if new", file, error)
        return None
    if len(data) < _HEAD.size or not data.startswith(_KIND):
        return None
    boot = _HEAD.unpack_from(data)[1].rstrip(b"\0").decode("ascii", "replace")
    marks = _read_mark(file.with_suffix(".mark")) or mark.Marks()
    running = {marks.loop, *marks.threads.values()}
    end = _HEAD.size + (len(data) - _HEAD.size) // _ENTRY.size * _ENTRY.size
    events = tuple(
        Begun(seq, attempt, is_caught=word - 1 == marks.caught, is_running=word - 1 in running)
        for word, seq, attempt in _ENTRY.iter_unpack(data[_HEAD.size : end])
        if word and seq < 1 << 63 and attempt < 1 << 31
    )
    return BegunTogether(boot, events)


def _read_mark(file: Path) -> mark.Marks | None:
    with suppress(OSError):
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return mark.read(os.pread(fd, mark.SIZE + 1, 0))
        finally:
            os.close(fd)
    return None
