"""What must outlive the supervisor, however it ends: agents, channels, loaded mods, quarantines, checkpoints, the events that
durable mods accepted, and dead letters. One SQLite file, written by one thread (`journal_writer`).
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import Event
from ...ipc.messages import pack
from ..config import JournalConfig
from .records import (
    Checkpoint,
    DeadLetter,
    DurableEvent,
    JournalError,
    KeptMod,
    LastRun,
    LetterHead,
    Quarantine,
    StorageFull,
)
from .schema import SCHEMA_VERSION, connect
from .store import Store, Totals
from .writer import Backup, Job, Writer

logger = logging.getLogger("modvisor.journal")

T = TypeVar("T")

# A disk that works empties 20,000 jobs in a second; more of them means that it hangs, and that senders would wait past their
# deadlines while their events fill the memory.
MAX_WAITING = 20_000

_DEFAULTS = JournalConfig()


class Journal:
    """The database file of a network. Opened by the owner of the state directory only; used from one event loop.

    What is "fire and forget" returns at once and is committed soon, in the order of the calls; what cannot be kept is logged
    and counted. What is awaited returns when it is committed. Every awaited method raises `JournalError` (not_running) when
    the journal is not open, `StorageFull` when the disk is full or cannot be written, and `JournalError` for anything else.
    """

    def __init__(self, file: Path, config: JournalConfig = _DEFAULTS) -> None:
        self._file = file
        self._config = config
        self._writer: Writer | None = None
        self._accepting_bytes = 0  # of events on their way to the disk

    # -- life; these block: call them from a thread

    def open(self) -> LastRun:
        """Start the writer; returns what was kept.

        A damaged file, or one of another program or of a later version, is set aside with a warning: a network must start
        without its past. One of a former version is brought to this one.

        Raises:
            ModvisorError: start_failed. The disk is full, the file is locked, there are no descriptors left …: the file is
                as good as it was, so it stays where it is.
        """
        try:
            connection, (store, kept) = connect(self._file, full_sync=self._config.sync == "full", read=self._take_over)
        except (sqlite3.Error, OSError) as error:
            raise self._start_failed(error) from error
        writer = Writer(store, self._file)
        try:
            writer.start()
        except RuntimeError as error:  # no more threads
            with closing(connection):
                store.leave()
            raise self._start_failed(error) from error
        self._writer = writer
        return kept

    def flush(self) -> None:
        """Wait until everything recorded so far is committed."""
        done = threading.Event()
        if self._writer is not None and self._writer.submit(Job("flush", None, done=done)):
            done.wait()

    async def committed(self) -> None:
        """`flush` for a coroutine: what was recorded before is kept, or was logged as lost. May be cancelled."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._submit(Job("flush", None, future))
        await future

    def close(self) -> None:
        """Commit what is queued, note that this was a clean end, and end the writer. May be called again."""
        if self._writer is not None:
            self._writer.close()

    # -- agents and channels, mods, quarantines: fire and forget

    def record(self, kind: str, data: dict[str, Any]) -> None:
        """Keep a change of agents or channels: register, unregister, join, leave or remove_channel with its parameters, of
        which ``metadata`` is packed."""
        self._queue(kind, lambda store: store.change(kind, data))

    def keep_mod(self, mod: KeptMod) -> None:
        """Keep how a mod was loaded, in place of what was kept of it; raises `Unserializable` for a spec that is not plain."""
        spec = pack(mod.spec)
        self._queue("loaded mod", lambda store: store.keep_mod(mod, spec))

    def drop_mod(self, mod_id: str) -> None:
        self._queue("unloaded mod", lambda store: store.drop_mod(mod_id))

    def forget_mod(self, mod_id: str, workers: Sequence[str]) -> None:
        """It was unloaded: it does not come back, and nor do its state and its quarantine, or those of its ``workers``."""

        def forget(store: Store) -> None:
            store.drop_mod(mod_id)
            store.forget_state(mod_id)
            for worker in workers:
                store.release(worker)

        self._queue("unloaded mod", forget)

    def quarantine(self, q: Quarantine) -> None:
        """Keep that a mod is in quarantine, in place of what was kept of it."""
        self._queue("quarantine", lambda store: store.quarantine(q))

    def release(self, mod_id: str) -> None:
        """The mod is no longer in quarantine."""
        self._queue("release", lambda store: store.release(mod_id))

    def keep_family(self, family: str, record: dict[str, Any] | None) -> None:
        """Keep the promotions within a family (plain data), or None of it."""
        packed = None if record is None else pack(record)
        self._queue("promotions", lambda store: store.keep_family(family, packed))

    def hand_on(self, former: str, mod_id: str) -> None:
        """Mod ``mod_id`` has taken the place of ``former``: what was accepted, and the checkpoint, are its own from here on.
        Fire and forget."""
        self._queue("swapped mod", lambda store: store.hand_on(former, mod_id))

    def reassign(self, seq: int, mod_id: str) -> None:
        """Event ``seq`` was accepted for another worker of its mod. Fire and forget."""
        self._queue("parted events", lambda store: store.reassign(seq, mod_id))

    # -- checkpoints

    async def save_checkpoint(self, mod_id: str, version: str, state: Any) -> None:
        """Keep the state that ``version`` of a mod gave, in place of the former one, which stays if this fails.

        Raises:
            Unserializable: names the place in ``state``.
            ModvisorError: too_large, over ``checkpoint_bytes``.
        """
        packed = pack(state)
        if len(packed) > self._config.checkpoint_bytes:
            raise ModvisorError(
                f"the checkpoint of mod {mod_id} takes {len(packed)} bytes, more than the {self._config.checkpoint_bytes} of "
                "journal.checkpoint_bytes",
                code=Code.TOO_LARGE,
            )
        at = time.time()
        await self._ask("checkpoint", lambda store: store.save_checkpoint(mod_id, version, packed, at))

    async def checkpoint(self, mod_id: str) -> Checkpoint | None:
        """The mod's last one; None if there is none, or, with a warning, if it cannot be read back."""
        return await self._ask("checkpoint", lambda store: store.checkpoint(mod_id))

    def drop_checkpoint(self, mod_id: str) -> None:
        """Fire and forget."""
        self._queue("dropped checkpoint", lambda store: store.drop_checkpoint(mod_id))

    # -- durable events

    async def accept(self, mod_id: str, event: Event) -> int:
        """Keep an event until it is `answered` or buried; returns its number, which no other event ever gets, once committed.

        An event of the same source and id that is kept already is the same one, sent again: it keeps its number.

        If it raises, nothing is kept; neither if it is cancelled (unless this process is killed at the same moment).

        Raises:
            StorageFull: also when ``durable_events`` or ``durable_bytes`` is reached, or too much waits for the disk.
            Unserializable: names the place in the event.
        """
        packed = _packed_event(event.to_dict())
        size, attempt, at = len(packed), event.attempt, time.time()
        self._check_waiting(size)
        future = asyncio.get_running_loop().create_future()
        key = event.source_id or "", event.event_id
        job = Job("event", lambda store: store.accept(mod_id, key, packed, attempt, at), future)
        self._submit(job)
        self._accepting_bytes += size
        try:
            return (await future).seq
        except asyncio.CancelledError:
            self._withdraw(job)
            raise
        finally:
            self._accepting_bytes -= size

    def charge(self, seq: int, attempt: int) -> None:
        """Remember which attempt of an event comes next. Fire and forget."""
        self._queue("attempt", lambda store: store.charge(seq, attempt))

    def answered(self, seq: int) -> None:
        """The event is done with. Fire and forget; while there is no room on the disk it is tried again and again."""
        self._queue("answer", lambda store: store.answered(seq), again=True)

    async def pending(self, mod_id: str, after: int = 0, limit: int = 1000) -> list[DurableEvent]:
        """The first ``limit`` events of a mod without an answer whose number is above ``after``, in order of number.

        One that cannot be read back is dropped with an error in the log.
        """
        return await self._ask("pending events", lambda store: store.pending(mod_id, after, limit))

    async def pending_counts(self) -> dict[str, int]:
        """Mod id to the number of its events without an answer; mods without any are left out."""
        return await self._ask("pending events", Store.pending_counts)

    # -- dead letters

    async def bury(self, letter: DeadLetter, *, seq: int | None = None) -> int:
        """Keep a dead letter, and in the same transaction forget the durable event ``seq``; returns the letter's id.

        The oldest letters make room for it. It is not kept itself if it alone is over ``dead_letter_bytes``, or if no letters
        are to be kept. If this raises, the durable event is kept; if it is cancelled, it may have happened or not.

        Raises:
            Unserializable: names the place in the event or the report.
        """
        event = _packed_event(letter.event)
        report = None if letter.report is None else pack(letter.report)
        return await self._ask("dead letter", lambda store: store.bury(letter, event, report, seq))

    async def dead_letters(
        self, mod_id: str | None = None, *, limit: int = 1000, before: int | None = None
    ) -> list[DeadLetter]:
        """The newest ``limit`` of a mod (None: of all) whose id is below ``before``, newest first.

        Those that cannot be read back are left out with a warning.
        """
        return await self._ask("dead letters", lambda store: store.dead_letters(mod_id, limit, before))

    async def letter_heads(
        self, mod_id: str | None = None, *, limit: int = 1000, before: int | None = None
    ) -> list[LetterHead]:
        """The same, in as little memory as their number and no payload asks for."""
        return await self._ask("dead letters", lambda store: store.letter_heads(mod_id, limit, before))

    async def dead_letter(self, letter_id: int) -> DeadLetter | None:
        return await self._ask("dead letter", lambda store: store.dead_letter(letter_id))

    async def forget_dead_letters(
        self, *, letter_id: int | None = None, mod_id: str | None = None, older_than: float | None = None
    ) -> int:
        """Drop the letters for which all that is given holds (nothing given: all letters); returns how many.

        Args:
            older_than: age in seconds.
        """
        until = None if older_than is None else time.time() - older_than
        return await self._ask("dead letters", lambda store: store.forget_dead_letters(letter_id, mod_id, until))

    # -- the whole

    async def backup(self, target: Path) -> int:
        """Copy the journal as it is now to ``target``, in place of a former copy (mode 0600); returns the copy's bytes.

        Events go on meanwhile. If it raises, ``target`` is as it was.

        Raises:
            JournalError: also bad_input, for a target that is something else than a copy, or where nothing can be written.
        """
        future = asyncio.get_running_loop().create_future()
        self._submit(Backup(target, Job("backup", None, future)))
        return await future

    def stats(self) -> dict[str, Any]:
        """Counts, sizes in bytes; ``file_bytes`` with the -wal, as of some seconds ago; ``last_error`` text or None."""
        writer = self._writer
        totals = Totals() if writer is None else writer.store.totals
        return {
            "durable_events": totals.durable_events,
            "durable_bytes": totals.durable_bytes,
            "dead_letters": totals.dead_letters,
            "dead_letter_bytes": totals.dead_letter_bytes,
            "checkpoints": totals.checkpoints,
            "file_bytes": 0 if writer is None else writer.file_bytes,
            "write_errors": 0 if writer is None else writer.write_errors,
            "last_error": None if writer is None else writer.last_error,
        }

    # -- within

    def _take_over(self, connection: sqlite3.Connection) -> tuple[Store, LastRun]:
        store = Store(connection, self._config)
        return store, store.take_over()

    def _start_failed(self, error: Exception) -> ModvisorError:
        return ModvisorError(
            f"{self._file} cannot be opened: {error}. The file is left as it is; remove the cause and start again",
            code=Code.START_FAILED,
        )

    def _queue(self, what: str, run: Callable[[Store], None], *, again: bool = False) -> None:
        if self._writer is None or not self._writer.submit(Job(what, run, again=again)):
            logger.error("a change (%s) came when the journal %s was not open; it is lost", what, self._file)

    async def _ask(self, what: str, run: Callable[[Store], T]) -> T:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._submit(Job(what, run, future))
        return await future

    def _submit(self, job: Job | Backup) -> None:
        if self._writer is None or not self._writer.submit(job):
            raise JournalError(f"the journal {self._file} is not open", code=Code.NOT_RUNNING)

    def _check_waiting(self, size: int) -> None:
        waiting = 0 if self._writer is None else self._writer.waiting
        if waiting > MAX_WAITING:
            raise StorageFull(f"{waiting} changes wait for the disk, which does not keep up; try again later")
        if self._accepting_bytes + size > self._config.durable_bytes:
            raise StorageFull(
                f"events of {self._accepting_bytes} bytes wait for the disk, and with {size} more they would be over the limit "
                f"of {self._config.durable_bytes} (journal.durable_bytes)"
            )

    def _withdraw(self, accepted: Job) -> None:
        """Nobody waits for this event any more: it is not written, or removed behind the job that wrote it."""
        accepted.abandoned = True

        def remove(store: Store) -> None:
            if accepted.result is not None and accepted.result.fresh:
                store.answered(accepted.result.seq)

        if self._writer is not None:
            self._writer.submit(Job("withdrawn event", remove, again=True))


def _packed_event(event: dict[str, Any]) -> bytes:
    """For the disk, which never holds an agent's secret; raises `Unserializable`."""
    return pack({key: value for key, value in event.items() if key != "secret"})


__all__ = [
    "MAX_WAITING",
    "SCHEMA_VERSION",
    "Checkpoint",
    "DeadLetter",
    "DurableEvent",
    "Journal",
    "JournalError",
    "LastRun",
    "KeptMod",
    "LetterHead",
    "Quarantine",
    "StorageFull",
]
