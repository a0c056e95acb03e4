"""The audit of a network that runs: records from the event loop, lines on the disk.

One thread at a time writes. Records that come meanwhile wait, and are written together.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio

from ...ipc.errors import Code, ModvisorError
from ..aside import Aside
from ..config import BEST_EFFORT, NO_AUDIT, STRICT, AuditConfig
from .actors import Actor, actor
from .chain import Head
from .file import AuditFile
from .key import made_key, read_key
from .records import Record, record, refused
from .syslog import tell_syslog

logger = logging.getLogger("modvisor.audit")

T = TypeVar("T")

# No keys of the network file: they bound the memory and the log of an audit that cannot be written.
MOST_WAITING = 1000
RETRY = 10.0  # seconds between two tries to write what waits
SYNC_EVERY = 1.0  # seconds until the disk must keep what was written, and the journal knows the newest line
COMPLAIN_EVERY = 60.0  # seconds between two lines of the log

KEY_FILE, FOLDER = "audit.key", "audit"  # in the state directory


class NotAudited(ModvisorError):
    """The audit cannot be written, so nothing was done."""

    code = Code.STORAGE_FULL


class Audit:
    """Takes records.

    Args:
        root: the state directory.
        config: returns the configuration in force.
        keep_head: keeps number, seal and time of the newest line in the journal.
        name: of the network, for the system's log.
        mask: masks secrets in the texts of failures.
        is_full: whether each record must survive a power failure before its command is done (`journal.sync`).
    """

    def __init__(
        self,
        root: Path,
        config: Callable[[], AuditConfig],
        keep_head: Callable[[int, bytes, float], None],
        name: str,
        mask: Callable[[str], str] = lambda text: text,
        is_full: bool = False,
    ) -> None:
        self._folder = root / FOLDER
        self._key_file = root / KEY_FILE
        self._config = config
        self._keep_head = keep_head
        self._name = name
        self._mask = mask
        self._is_full = is_full
        self._must_sync = False  # a sync failed: until one works, each record waits for the disk
        self._is_unsynced = False
        self._synced = time.monotonic()
        self._file: AuditFile | None = None
        self._sealed: tuple[int, bytes] | None = None
        self._waiting: deque[tuple[Record, asyncio.Future[None] | None]] = deque()
        self._lost = 0  # records that found no place to wait in
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()  # anyio's takes a turn of the loop though it is free
        self._thread = Aside(1, "audit")
        self._failed_since: str | None = None
        self._complained = float("-inf")

    # -- life

    async def open(self, sealed: tuple[int, bytes] | None) -> None:
        """Begin to write after the last line of the last run.

        A disk that cannot be written does not stop this: it is tried again.

        Args:
            sealed: number and seal of the newest line, as the journal knows them.

        Raises:
            NoKey: the key that the network file names cannot be used.
        """
        self._sealed = sealed
        if self._config().mode != NO_AUDIT:
            with suppress(OSError):  # the first record says why
                await self._thread.run(lambda: self._opened().prepare())

    async def run(self) -> None:
        """Write what comes, until this is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            timer = None
            if self._waiting or self._is_unsynced:
                timer = loop.call_later(RETRY if self._waiting else SYNC_EVERY, self._wake.set)
            await self._wake.wait()
            if timer is not None:
                timer.cancel()
            self._wake.clear()
            if self._waiting:
                await self._write_waiting()
            if self._is_unsynced and time.monotonic() - self._synced >= SYNC_EVERY:
                await self._sync()

    async def close(self) -> None:
        """Write what waits, and end."""
        await self._write_waiting()
        if self._is_unsynced:
            await self._sync()
        if self._waiting:
            logger.error("%d records of the audit are lost: %s", len(self._waiting) + self._lost, self._failed_since)
        if self._file is not None:
            self._file.close()
        self._thread.close()

    # -- what is recorded

    def note(
        self, what: str, on: str | None, outcome: str, detail: Mapping[str, Any] | None = None, by: Actor | None = None
    ) -> None:
        """Record what has happened."""
        if self._config().mode != NO_AUDIT:
            self._put(record(by or actor(), what, on, outcome, detail))

    def refused(self, sums: Iterable[tuple[str, str, int, str]]) -> None:
        """Record the requests that were refused within a minute; see `records.refused`."""
        config = self._config()
        if config.mode != NO_AUDIT:
            for each in refused(sums, config.refused_bytes):
                self._put(each)

    def check(self) -> None:
        """Raise `NotAudited` if the mode is strict and the last record could not be written."""
        if self._failed_since is not None and self._config().mode == STRICT:
            raise _not_audited(self._failed_since)

    async def audited(
        self,
        what: str,
        on: str | None,
        do: Callable[[], Awaitable[T]],
        detail: Mapping[str, Any] | None = None,
        mode: str | None = None,
    ) -> T:
        """Do something that is recorded, and return what ``do`` returns.

        Args:
            mode: instead of the mode in force.

        Raises:
            NotAudited: the mode is strict, and the record cannot be written. ``do`` was not called.
            Whatever ``do`` raises.
        """
        mode = mode or self._config().mode
        if mode == NO_AUDIT:
            return await do()
        by = actor()
        if mode == STRICT:
            await self._write(record(by, what, on, "asked", detail))
        try:
            result = await do()
        except BaseException as error:
            self._put(record(by, what, on, _failure_of(error), {**(detail or {}), "error": self._mask(str(error))}))
            raise
        await self._settle(record(by, what, on, *self._outcome_of(result, detail or {})), mode)
        return result

    def _outcome_of(self, result: Any, detail: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        if getattr(result, "success", True):
            return "ok", detail
        error, message = getattr(result, "error", None), getattr(result, "message", None)
        told = {"message": self._mask(str(message))} if message else {}
        return str(error or "failed"), {**detail, **told}

    # -- how it gets to the disk

    async def _settle(self, outcome: Record, mode: str) -> None:
        """Record what has been done. A failure is logged: the command is done."""
        if mode == BEST_EFFORT:
            self._put(outcome)
            return
        with suppress(NotAudited), anyio.CancelScope(shield=True):
            await self._write(outcome)

    def _put(self, each: Record, future: asyncio.Future[None] | None = None) -> None:
        if future is None and len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append((each, future))
        if future is None:  # else whoever waits writes it
            self._wake.set()

    async def _write(self, each: Record) -> None:
        """Write a record, with those that wait. Raises `NotAudited`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._put(each, future)
        await self._write_waiting()
        await future

    async def _write_waiting(self) -> None:
        async with self._writing:
            with anyio.CancelScope(shield=True):
                while self._waiting and await self._write_batch():
                    pass

    async def _write_batch(self) -> bool:
        """Write what waits. Return whether that worked."""
        batch, self._waiting = list(self._waiting), deque()
        lost, self._lost = self._lost, 0
        records = [each for each, _ in batch]
        if lost:
            records.insert(0, record(Actor("audit"), "audit.lost", None, "failed", {"records": lost}))
        try:
            await self._thread.run(self._append, records)
        except (OSError, ModvisorError) as error:
            self._lost += lost
            self._keep_waiting(batch, error)
            return False
        self._written(batch)
        return True

    async def _sync(self) -> None:
        """Sync the file to the disk, and tell the journal which line is the newest."""
        async with self._writing:
            if not self._is_unsynced:  # `close` has done it meanwhile, and the journal may be closed
                return
            with anyio.CancelScope(shield=True):
                await self._sync_now()
                self._is_unsynced, self._synced = False, time.monotonic()

    async def _sync_now(self) -> None:
        try:
            head, sealed = await self._thread.run(self._synced_head)
        except OSError as error:
            self._must_sync = True
            self._complain(error)
        else:
            self._keep_head(head.number, sealed, time.time())

    def _opened(self) -> AuditFile:
        """Return the file to write to. Blocks. Raises OSError, `NoKey`."""
        if self._file is None:
            config, given = self._config(), self._config().key_file
            key = made_key(self._key_file) if given is None else read_key(given)
            file = AuditFile(self._folder, key, most_bytes=config.file_bytes, most_files=config.files)
            file.resume(self._sealed)
            self._file = file
        return self._file

    def _append(self, records: list[Record]) -> None:
        file = self._opened()
        file.append(records)
        if self._is_full or self._must_sync:
            file.sync()
            self._must_sync = False

    def _synced_head(self) -> tuple[Head, bytes]:
        assert self._file is not None
        head, sealed = self._file.sync()
        if (socket := self._config().syslog) is not None:
            tell_syslog(socket, f"{self._name}: newest record of the audit {head.number}:{head.mac[:32]}")
        return head, sealed

    def _written(self, batch: list[tuple[Record, asyncio.Future[None] | None]]) -> None:
        self._is_unsynced = True
        self._wake.set()  # the time until the next sync begins
        if self._failed_since is not None:
            logger.warning("the audit is written again")
        self._failed_since = None
        for _, future in batch:
            if future is not None and not future.done():
                future.set_result(None)

    def _keep_waiting(self, batch: list[tuple[Record, asyncio.Future[None] | None]], error: Exception) -> None:
        """Keep records that could not be written, but for those whose commands are refused."""
        self._complain(error)
        notes = [each for each in batch if each[1] is None][:MOST_WAITING]
        self._lost += sum(future is None for _, future in batch) - len(notes)
        self._waiting.extendleft(reversed(notes))
        for _, future in batch:
            if future is None:
                continue
            if not future.done():
                future.set_exception(_not_audited(str(error)))
        self._wake.clear()  # tried again after a while, or with the next command

    def _complain(self, error: Exception) -> None:
        self._failed_since = str(error)
        if time.monotonic() - self._complained > COMPLAIN_EVERY:
            self._complained = time.monotonic()
            logger.error("the audit in %s cannot be written: %s", self._folder, error)


def _not_audited(why: str) -> NotAudited:
    return NotAudited(
        f"the audit cannot be written ({why}), so nothing was changed; make room, or set 'audit: best_effort' and "
        "read the network file again"
    )


def _failure_of(error: BaseException) -> str:
    if isinstance(error, ModvisorError):
        return str(error.code)
    return "failed" if isinstance(error, Exception) else "cancelled"
