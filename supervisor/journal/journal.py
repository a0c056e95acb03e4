"""What must outlive the supervisor, in one SQLite file: what a network can keep, and ask for again.

`Journal` is used in the event loop. Every change and every question becomes a job for the writer's
one thread (`writer.py`), which runs it on the tables (`store.py`). Most operations of the journal
are operations of the store; `_queued` and `_asked` hand them on with their own signatures.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import Event
from ...ipc.messages import pack
from ..config import JournalConfig
from .durable_table import Totals
from .history import packed_for_people
from .opening import connect, reopen
from .records import AnsweredBefore, DeadLetter, JournalError, KeptMod, LastRun, Quarantine, StorageFull
from .store import Store
from .writer import Backup, Job, Writer

logger = logging.getLogger("modvisor.journal")

P = ParamSpec("P")
T = TypeVar("T")

MAX_WAITING = 20_000
"""How many jobs may wait for the disk.

A disk that works does 20,000 jobs in a second. With more it hangs, and senders wait past deadlines.
"""

_DEFAULTS = JournalConfig()


def _queued(
    what: str, run: Callable[Concatenate[Store, P], None], *, again: bool = False
) -> Callable[Concatenate[Journal, P], None]:
    """Make a method that has ``run`` done soon, and returns at once."""

    def queue(self: Journal, *args: P.args, **kwargs: P.kwargs) -> None:
        self._queue(what, lambda store: run(store, *args, **kwargs), again=again)

    queue.__doc__ = run.__doc__
    return queue


def _asked(
    what: str, run: Callable[Concatenate[Store, P], T]
) -> Callable[Concatenate[Journal, P], Coroutine[Any, Any, T]]:
    """Make a method that waits for the result of ``run``."""

    async def ask(self: Journal, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.ask(what, lambda store: run(store, *args, **kwargs))

    ask.__doc__ = run.__doc__
    return ask


class Journal:
    """The database file of a network.

    Opened only by the owner of the state directory. Used from one event loop.

    A method that is not awaited returns at once. Its change is committed soon, in the order of the
    calls; a change that cannot be kept is logged and counted. A method that is awaited returns when
    its change is committed. Each of these raises:

        JournalError: not_running: the journal is not open; or another failure.
        StorageFull: the disk is full or cannot be written.
    """

    def __init__(self, file: Path, config: JournalConfig = _DEFAULTS) -> None:
        self._file = file
        self._config = config
        self._writer: Writer | None = None
        self._accepting_bytes = 0  # of events on their way to the disk
        self._gathered: list[Callable[[Store], None]] | None = None  # the changes of a `together`

    # -- life; these block: call them from a thread

    def open(self) -> LastRun:
        """Start the writer. Return what the last run left.

        Of a damaged file, all that can be read is kept, and the damaged file stays beside it. A
        file of another program is set aside. Both are told with a warning, since a network must
        start even without its past. A file of an earlier version is migrated.

        Raises:
            ModvisorError: start_failed: a later modvisor wrote the file, the disk is full, the file
                is locked, no descriptors are left, and so on. The file stays where it is.
        """
        full_sync = self._config.sync == "full"
        try:
            connection, (store, last_run) = connect(self._file, full_sync=full_sync, read=self._take_over)
        except (sqlite3.Error, OSError) as error:
            raise self._start_failed(error) from error
        writer = Writer(store, self._file, lambda error: reopen(store, self._file, full_sync, error))
        try:
            writer.start()
        except RuntimeError as error:  # no more threads
            with closing(connection):
                store.leave()
            raise self._start_failed(error) from error
        self._writer = writer
        return last_run

    def flush(self) -> None:
        """Wait until everything recorded so far is committed."""
        done = threading.Event()
        if self._writer is not None and self._writer.submit(Job("flush", None, done=done)):
            done.wait()

    async def committed(self) -> None:
        """Wait until everything recorded so far is committed, or logged as lost.

        May be cancelled.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._submit(Job("flush", None, future))
        await future

    def close(self) -> None:
        """Commit what is queued, note a clean end, and end the writer. May be called again."""
        if self._writer is not None:
            self._writer.close()

    def together(self, what: str, change: Callable[[], T]) -> tuple[T, asyncio.Future[None]]:
        """Run ``change``, and commit all that it records in one transaction.

        Args:
            change: may call the methods that are not awaited. It must not wait.

        Returns:
            What ``change`` returned, and a future that is done when all is on disk. It raises if
            nothing of it is.

        Raises:
            What ``change`` raises; nothing is recorded then. StorageFull: too many changes wait for
            the disk. JournalError: not_running.
        """
        self._check_waiting(0)
        gathered = self._gathered = []
        try:
            result = change()
        finally:
            self._gathered = None

        def run(store: Store) -> None:
            for each in gathered:
                each(store)

        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if gathered:
            self._submit(Job(what, run, future))
        else:
            future.set_result(None)
        return result, future

    # -- agents and channels, mods, quarantines

    def record(self, kind: str, data: dict[str, Any]) -> None:
        """Keep a change of agents or channels.

        Args:
            kind: register, unregister, join, leave, private, invite … (`store` has them all).
            data: its parameters, with ``metadata`` packed.
        """
        self._queue(kind, lambda store: store.change(kind, data))

    def keep_mod(self, mod: KeptMod) -> None:
        """Keep how a mod was loaded, in place of an earlier record.

        Raises:
            Unserializable: its spec is not plain data.
        """
        spec = pack(mod.spec)
        self._queue("loaded mod", lambda store: store.keep_mod(mod, spec))

    forget_agent = _asked("forgotten agent", Store.forget_agent)
    try_room = _asked("the disk was tried", Store.try_room)
    drop_mod = _queued("unloaded mod", Store.drop_mod)

    def forget_mod(self, mod_id: str, workers: Sequence[str]) -> None:
        """Forget an unloaded mod: its record, its state, and the quarantines of its ``workers``."""

        def forget(store: Store) -> None:
            store.drop_mod(mod_id)
            store.forget_state(mod_id)
            for worker in workers:
                store.release(worker)

        self._queue("unloaded mod", forget)

    def quarantine(self, quarantine: Quarantine) -> None:
        """Keep that a mod is in quarantine, in place of an earlier record.

        On a full disk, this is done when there is room again.
        """
        about = f"quarantine of {quarantine.mod_id}"
        self._queue("quarantine", lambda store: store.quarantine(quarantine), again=True, about=about)

    def release(self, mod_id: str) -> None:
        """Forget the quarantine of a mod, at the latest when the disk has room again."""
        about = f"quarantine of {mod_id}"
        self._queue("release", lambda store: store.release(mod_id), again=True, about=about)

    def keep_family(self, family: str, record: dict[str, Any] | None) -> None:
        """Keep the promotions within a family, as plain data; None forgets them."""
        packed = None if record is None else pack(record)
        self._queue("promotions", lambda store: store.keep_family(family, packed))

    def hand_on(self, former: str, mod_id: str, entry: KeptMod | None = None) -> None:
        """Give the durable events and the checkpoint of mod ``former`` to ``mod_id``, which replaced it.

        In the same transaction ``entry`` takes the place of the record of ``former``.
        """
        spec = b"" if entry is None else pack(entry.spec)

        def hand_on(store: Store) -> None:
            store.hand_on(former, mod_id)
            if entry is not None:
                store.keep_mod(entry, spec)

        self._queue("swapped mod", hand_on)

    reassign = _queued("parted events", Store.reassign)

    # -- checkpoints

    async def save_checkpoint(self, mod_id: str, version: str, state: Any) -> None:
        """Keep the state that ``version`` of a mod gave.

        The earlier checkpoint stays if this fails.

        Raises:
            Unserializable: names the place in ``state``.
            ModvisorError: too_large: more than ``checkpoint_bytes``.
        """
        packed = pack(state)
        if len(packed) > self._config.checkpoint_bytes:
            most = f"{self._config.checkpoint_bytes} of journal.checkpoint_bytes"
            text = f"the checkpoint of mod {mod_id} takes {len(packed)} bytes, more than the {most}"
            raise ModvisorError(text, code=Code.TOO_LARGE)
        at = time.time()
        await self.ask("checkpoint", lambda store: store.save_checkpoint(mod_id, version, packed, at))

    checkpoint = _asked("checkpoint", Store.checkpoint)
    checkpoint_head = _asked("head of a checkpoint", Store.checkpoint_head)
    drop_checkpoint = _queued("dropped checkpoint", Store.drop_checkpoint)

    # -- durable events

    async def accept(self, mod_id: str, event: Event, owner: str | None = None) -> int:
        """Keep an event until it is `answered` or buried. Return its number, which is never reused.

        An event with the owner and id of a kept one is the same event, sent again. It gets the
        same number.

        Args:
            owner: who sent the event, see `Journey.owner`; None: its source.

        If this raises, nothing is kept. If it is cancelled, nothing is kept either, unless this
        process is killed in the same moment.

        Raises:
            AnsweredBefore: an event with this source and id was `answered`, and its answer is
                remembered. Nothing is kept.
            StorageFull: also when ``durable_events`` or ``durable_bytes`` is reached, or too many
                changes wait for the disk.
            Unserializable: names the place in the event.
        """
        packed = _packed_event(event.to_dict())
        size, attempt, at = len(packed), event.attempt, time.time()
        self._check_waiting(size)
        future = asyncio.get_running_loop().create_future()
        key = owner or event.source_id or "", event.event_id
        job = Job("event", lambda store: store.accept(mod_id, key, packed, attempt, at), future)
        self._submit(job)
        self._accepting_bytes += size
        try:
            accepted = await future
        except asyncio.CancelledError:
            self._withdraw(job)
            raise
        finally:
            self._accepting_bytes -= size
        if accepted.answer is not None:
            raise AnsweredBefore(accepted.answer)
        return accepted.seq

    charge = _queued("attempt", Store.charge)
    note_deaths = _asked("ends of the last run", Store.note_deaths)
    answered = _queued("answer", Store.answered, again=True)
    pending = _asked("pending events", Store.pending)
    pending_counts = _asked("pending events", Store.pending_counts)

    # -- dead letters

    async def bury(self, letter: DeadLetter, *, seq: int | None = None) -> int:
        """Keep a dead letter, and forget the durable event ``seq`` in the same transaction.

        The oldest letters make room for it. It is not kept itself if it alone exceeds
        ``dead_letter_bytes``, or if no letters are kept. If this raises, the durable event is kept.
        If it is cancelled, it may have happened or not.

        Returns:
            The letter's id.

        Raises:
            Unserializable: names the place in the event or the report.
        """
        event = _packed_event(letter.event)
        report = None if letter.report is None else pack(letter.report)
        return await self.ask("dead letter", lambda store: store.bury(letter, event, report, seq))

    dead_letters = _asked("dead letters", Store.dead_letters)
    letter_heads = _asked("dead letters", Store.letter_heads)
    dead_letter = _asked("dead letter", Store.dead_letter)

    async def forget_dead_letters(
        self, *, letter_id: int | None = None, mod_id: str | None = None, older_than: float | None = None
    ) -> int:
        """Drop the letters that meet all given conditions; without any, all letters.

        Return how many.

        Args:
            older_than: age in seconds.
        """
        until = None if older_than is None else time.time() - older_than
        return await self.ask("dead letters", lambda store: store.forget_dead_letters(letter_id, mod_id, until))

    # -- for people to look back at

    def keep_crash(self, mod_id: str, at: float, report: dict[str, Any]) -> None:
        """Keep a crash report, as plain data. The oldest make room for it."""
        if (packed := packed_for_people("crash report", report)) is not None:
            self._queue("crash report", lambda store: store.keep_crash(mod_id, at, packed))

    def keep_stats(self, stats: dict[str, Any]) -> None:
        """Keep the figures of this run, as plain data, in place of earlier ones."""
        at = time.time()
        if (packed := packed_for_people("figures", stats)) is not None:
            self._queue("figures", lambda store: store.keep_stats(at, packed))

    keep_audit_head = _queued("newest record of the audit", Store.keep_audit_head)

    # -- the whole

    async def backup(self, target: Path) -> int:
        """Copy the journal as it is now to ``target``, with mode 0600.

        Return the bytes of the copy.

        Replaces an earlier copy. Events go on meanwhile. If this raises, ``target`` is unchanged.

        Raises:
            JournalError: also bad_input: ``target`` is not a copy of a journal, or cannot be
                written.
        """
        future = asyncio.get_running_loop().create_future()
        self._submit(Backup(target, Job("backup", None, future)))
        return await future

    @property
    def waiting(self) -> int:
        """How many changes wait for the disk."""
        return 0 if self._writer is None else self._writer.waiting

    def stats(self) -> dict[str, Any]:
        """Return counts and sizes in bytes.

        ``file_bytes`` includes the -wal and is some seconds old. ``last_error`` is text or None.
        """
        writer = self._writer
        totals = Totals() if writer is None else writer.store.totals
        return {
            **totals.shown(),
            "file_bytes": 0 if writer is None else writer.file_bytes,
            "write_errors": 0 if writer is None else writer.write_errors,
            "last_error": None if writer is None else writer.last_error,
            "damaged_rows": 0 if writer is None else writer.store.damaged_rows,
        }

    # -- within

    def _take_over(self, connection: sqlite3.Connection) -> tuple[Store, LastRun]:
        store = Store(connection, self._config, self._file)
        return store, store.take_over()

    def _start_failed(self, error: Exception) -> ModvisorError:
        return ModvisorError(
            f"{self._file} cannot be opened: {error}. The file is left as it is; remove the cause and start again",
            code=Code.START_FAILED,
        )

    def _queue(self, what: str, run: Callable[[Store], None], *, again: bool = False, about: str | None = None) -> None:
        if self._gathered is not None:
            self._gathered.append(run)
            return
        if self._writer is None or not self._writer.submit(Job(what, run, again=again, about=about)):
            logger.error("a change (%s) came when the journal %s was not open; it is lost", what, self._file)

    async def ask(self, what: str, run: Callable[[Store], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._submit(Job(what, run, future))
        return await future

    def _submit(self, job: Job | Backup) -> None:
        if self._writer is None or not self._writer.submit(job):
            raise JournalError(f"the journal {self._file} is not open", code=Code.NOT_RUNNING)

    def _check_waiting(self, size: int) -> None:
        if (waiting := self.waiting) > MAX_WAITING:
            raise StorageFull(f"{waiting} changes wait for the disk, which does not keep up; try again later")
        if self._accepting_bytes + size > self._config.durable_bytes:
            raise StorageFull(
                f"events of {self._accepting_bytes} bytes wait for the disk, and with {size} more they would be over the limit "
                f"of {self._config.durable_bytes} (journal.durable_bytes)"
            )

    def _withdraw(self, accepted: Job) -> None:
        """Undo an `accept` that was cancelled.

        The event is not written, or is removed by a second job if it was written already.
        """
        accepted.abandoned = True

        def remove(store: Store) -> None:
            if accepted.result is not None and accepted.result.fresh:
                store.answered(accepted.result.seq)

        if self._writer is not None:
            self._writer.submit(Job("withdrawn event", remove, again=True))


def _packed_event(event: dict[str, Any]) -> bytes:
    """Pack an event for the disk, which never holds an agent's secret. Raises `Unserializable`."""
    return pack({key: value for key, value in event.items() if key != "secret"})
