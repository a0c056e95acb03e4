"""The journal's one thread: runs all waiting jobs in one transaction and answers after the COMMIT.

So a thousand changes take a few commits. Reads are jobs too, so that they see all earlier changes.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...ipc.errors import Code, ModvisorError
from ..progress import teller
from .backup import copy_database
from .records import JournalError, StorageFull
from .schema import is_damage, primary_code
from .store import Store

logger = logging.getLogger("modvisor.journal")

UPKEEP_EVERY = 10.0  # seconds until a change is followed by upkeep: drop old letters, give back free pages
_IDLE_UPKEEP = 600.0  # seconds between upkeeps while nothing changes: only the age of letters matters
_COMPLAIN_EVERY = 10.0  # seconds between two log lines about the same kind of failure
_MEND_EVERY = 60.0  # seconds between two tries to mend a damaged file
_AGAIN_AT_ONCE = 1000  # postponed jobs tried in one transaction

_WAITED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NO_ROOM = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN})
_NO_ROOM_FOR_FILES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


@dataclass(slots=True, eq=False)
class Job:
    """Work on the store, for the writer's thread.

    Attributes:
        what: its name in the log.
        run: the work; its value becomes ``result``. It may run again after a failed transaction.
            None if only the job's place in the queue matters.
        future: set after the COMMIT, for a caller in an event loop.
        done: set after the COMMIT, for a caller in a thread.
        again: the job must not be lost, so it waits until there is room. Only for work that may run
            at any later time, in any order.
        about: what the job changes. A job that waits for room is dropped when a later one about the
            same is done, or waits too.
        abandoned: nobody wants the result any more.
        error: why the work was not done. A `ModvisorError` is the store's own answer; any other
            exception is a failure.
    """

    what: str
    run: Callable[[Store], Any] | None
    future: asyncio.Future[Any] | None = None
    done: threading.Event | None = None
    again: bool = False
    about: str | None = None
    abandoned: bool = False
    result: Any = None
    error: Exception | None = None

    def attempt(self, store: Store) -> None:
        self.result, self.error = None, None
        if self.abandoned or self.run is None:
            return
        try:
            self.result = self.run(store)
        except ModvisorError as refusal:
            self.error = refusal

    @property
    def failed(self) -> bool:
        return self.error is not None and not isinstance(self.error, ModvisorError)

    def fail(self, error: Exception) -> None:
        self.result, self.error = None, error


@dataclass(slots=True, eq=False)
class Backup:
    """A copy of the whole file. Transactions go on meanwhile."""

    target: Path
    job: Job
    moved: Callable[[int, int], None] = field(default_factory=teller)  # told the copied pages, and how many there are


class _Closing(Exception):
    """The journal is closed while a backup is made."""


class Writer:
    """Owns the store and its connection from `start` to the end of `close`.

    Args:
        mend: puts the readable rows of a damaged file into a new one, which the store then uses.
    """

    def __init__(self, store: Store, file: Path, mend: Callable[[Exception], None]) -> None:
        self._store = store
        self._file = file
        self._mend = mend
        self._mended_at = float("-inf")
        self._queue: queue.SimpleQueue[Job | Backup | None] = queue.SimpleQueue()
        self._gate = threading.Lock()  # keeps jobs from being queued behind the None that ends the thread
        self._closed = False
        self._ending = False  # the None was taken
        self._running = 0  # jobs taken and not answered
        self._postponed: deque[Job] = deque()
        self._backups: deque[Backup] = deque()
        self._upkeep_at = time.monotonic() + UPKEEP_EVERY
        self._complained: tuple[int | None, float] = (None, float("-inf"))
        self._thread = threading.Thread(target=self._main, name="journal", daemon=True)
        self.file_bytes = self._measure()
        self.write_errors = 0
        self.last_error: str | None = None

    # -- for other threads

    @property
    def store(self) -> Store:
        """The store. Other threads may only read its totals."""
        return self._store

    @property
    def waiting(self) -> int:
        """How many jobs wait for the disk."""
        return self._queue.qsize() + self._running

    def start(self) -> None:
        """Start the thread. Raises RuntimeError if the system has no more threads."""
        self._thread.start()

    def submit(self, job: Job | Backup) -> bool:
        """Queue a job. Return False if the writer was told to end."""
        with self._gate:
            if not self._closed:
                self._queue.put(job)
            return not self._closed

    def close(self) -> None:
        """Finish the queued jobs and end. Blocks. May be called again."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    # -- in the writer's thread

    def _main(self) -> None:
        with closing(self._store.connection):
            while not self._ending:
                self._round(max(0.0, self._upkeep_at - time.monotonic()))
                while self._backups and not self._ending:
                    self._back_up(self._backups.popleft())
                if time.monotonic() >= self._upkeep_at and not self._ending:
                    self._upkeep()
            for backup in self._backups:
                self._finish([backup.job], _Closing("the journal was closed"))
            self._leave()

    def _round(self, timeout: float) -> None:
        """Do the queued jobs. Wait for one up to ``timeout`` seconds."""
        jobs = self._take(timeout)
        if not jobs:
            return
        self._running = len(jobs)
        self._commit([job for job in jobs if job.run is not None])
        self._upkeep_at = min(self._upkeep_at, time.monotonic() + UPKEEP_EVERY)
        self._answer(jobs)
        self._running = 0

    def _take(self, timeout: float) -> list[Job]:
        items: list[Job | Backup | None] = []
        with suppress(queue.Empty):
            items.append(self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait())
            for _ in range(
                self._queue.qsize()
            ):  # no more than this, since others may queue jobs as fast as we take them
                items.append(self._queue.get_nowait())
        self._ending = self._ending or None in items
        self._backups.extend(item for item in items if isinstance(item, Backup))
        return [item for item in items if isinstance(item, Job)]

    def _commit(self, jobs: list[Job]) -> None:
        """Commit all in one transaction; if that fails, each in its own, so that one bad job
        fails alone.
        """
        error = self._try(jobs) if jobs else None
        if error is not None and is_damage(error) and self._was_mended(error):
            error = self._try(jobs)
        if error is not None:
            self._commit_singly(jobs)
        failed = [job for job in jobs if job.failed]
        self._drop_outdated(jobs)
        if failed:
            self._report(failed, len(jobs))
            newest = {job.about or id(job): job for job in jobs}
            self._postponed.extend(
                job for job in failed if job.again and _passes(job.error) and newest[job.about or id(job)] is job
            )
        elif self._postponed:
            self._try_postponed()

    def _was_mended(self, damage: Exception) -> bool:
        """Mend the file, unless that was tried a moment ago."""
        now = time.monotonic()
        if now - self._mended_at < _MEND_EVERY:
            return False
        self._mended_at = now
        try:
            self._mend(damage)
        except (sqlite3.Error, OSError) as error:
            logger.error("%s is damaged (%s), and cannot be mended: %s", self._file, damage, error)
            return False
        return True

    def _commit_singly(self, jobs: list[Job]) -> None:
        waiting = iter(jobs)
        for job in waiting:
            error = self._try([job])
            if error is None:
                continue
            job.fail(error)
            if primary_code(error) in _WAITED:  # every further job would wait as long
                for job in waiting:
                    job.fail(error)

    def _try(self, jobs: list[Job]) -> Exception | None:
        store = self._store
        totals = replace(store.totals)
        try:
            store.connection.execute("BEGIN")
            for job in jobs:
                job.attempt(store)
            store.connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - text that is not valid Unicode fails before SQLite sees it
            with suppress(sqlite3.Error):
                if store.connection.in_transaction:
                    store.connection.execute("ROLLBACK")
            store.totals = totals
            return error
        return None

    def _drop_outdated(self, jobs: list[Job]) -> None:
        newer = {job.about for job in jobs if job.about is not None}
        if newer and self._postponed:
            self._postponed = deque(job for job in self._postponed if job.about not in newer)

    def _try_postponed(self) -> None:
        """Try the postponed jobs again, the oldest first, as long as that works."""
        while self._postponed:
            jobs = [self._postponed[number] for number in range(min(len(self._postponed), _AGAIN_AT_ONCE))]
            if self._try(jobs) is not None:
                return
            for _ in jobs:
                self._postponed.popleft()

    def _report(self, failed: list[Job], among: int) -> None:
        """Log changes that cannot be kept.

        The network goes on; after a restart they are missing.
        """
        first = failed[0]
        self.write_errors += len(failed)
        self.last_error = f"{first.what}: {first.error}"
        code, now = primary_code(first.error), time.monotonic()
        if self._complained[0] == code and now - self._complained[1] < _COMPLAIN_EVERY:
            return
        self._complained = (code, now)
        logger.error("%d of %d changes could not be kept in %s, the first a %s: %s",
                     len(failed), among, self._file, first.what, first.error)  # fmt: skip

    def _answer(self, jobs: list[Job]) -> None:
        asked: dict[asyncio.AbstractEventLoop, list[Job]] = {}
        for job in jobs:
            if job.future is not None:
                asked.setdefault(job.future.get_loop(), []).append(job)
            if job.done is not None:
                job.done.set()
        for loop, of_loop in asked.items():
            with suppress(RuntimeError):  # the loop is closed, so nobody waits
                loop.call_soon_threadsafe(_settle, of_loop)

    def _finish(self, jobs: list[Job], error: Exception) -> None:
        for job in jobs:
            job.fail(error)
        self._answer(jobs)

    def _back_up(self, backup: Backup) -> None:
        """Copy the file in steps, and do the waiting jobs between two steps."""
        job = backup.job

        def between(status: int, remaining: int, total: int) -> None:
            backup.moved(total - remaining, total)
            self._round(0)
            if self._ending:
                raise _Closing("the journal was closed")

        try:
            job.result = copy_database(self._store.connection, self._file, backup.target, between)
        except Exception as error:  # noqa: BLE001 - the caller gets any error, and the journal goes on
            job.fail(error)
        self._answer([job])

    def _upkeep(self) -> None:
        self._upkeep_at = time.monotonic() + (UPKEEP_EVERY if self._postponed else _IDLE_UPKEEP)
        self._try_postponed()
        self._try([Job("upkeep", Store.retain)])
        with suppress(sqlite3.Error):  # it only saves space, and is tried again later
            while self._queue.empty() and self._store.give_back():
                pass
            self._store.checkpoint_wal()
        self.file_bytes = self._measure()

    def _leave(self) -> None:
        self._try_postponed()
        if self._postponed:
            self._report(list(self._postponed), len(self._postponed))
        error = self._try([Job("close", Store.leave)])
        if error is not None:
            logger.error("%s could not be closed cleanly: %s", self._file, error)
        self.file_bytes = self._measure()

    def _measure(self) -> int:
        total = 0
        for suffix in ("", "-wal"):
            with suppress(OSError):
                total += self._file.with_name(self._file.name + suffix).stat().st_size
        return total


def _settle(jobs: list[Job]) -> None:
    """Set the futures of finished jobs, in their event loop."""
    for job in jobs:
        if job.future is None or job.future.done():  # it was cancelled meanwhile
            continue
        if job.error is not None:
            job.future.set_exception(_translated(job))
        else:
            job.future.set_result(job.result)


def _translated(job: Job) -> Exception:
    """Return the exception that the caller gets for the job's error."""
    error = job.error
    if isinstance(error, ModvisorError):
        return error
    if isinstance(error, _Closing):
        return JournalError(f"{job.what}: {error}", code=Code.NOT_RUNNING)
    if _no_room(error):
        made = StorageFull(f"{job.what}: {error}; free some space (modvisor doctor says where), and it goes on")
    else:
        made = JournalError(f"{job.what}: {error}")
    made.__cause__ = error
    return made


def _no_room(error: BaseException | None) -> bool:
    return primary_code(error) in _NO_ROOM or getattr(error, "errno", None) in _NO_ROOM_FOR_FILES


def _passes(error: BaseException | None) -> bool:
    """Return whether the same work may succeed at another time."""
    return _no_room(error) or primary_code(error) in _WAITED
