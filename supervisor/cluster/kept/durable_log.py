"""The accepted events of mods that run once in a cluster, kept in JetStream."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import Event
from ....ipc.messages import pack, unpack
from ...config import JournalConfig
from ...journal import AnsweredBefore, DurableEvent, Record, StorageFull
from ..link.errors import NoQuorum, TooLarge
from ..link.link import Link
from ..link.names import token
from .fenced import Conflict, Write
from .mod_log import OFFSET, Kept, ModLog

logger = logging.getLogger("modvisor.cluster")

STREAM = "durable"
_MOST_TRIES = 4
_WINDOW = 120 * 1_000_000_000
_HEAD_ROOM = 4096  # of a message, for its seal, its headers and what stands around the event

TokenOf = Callable[[str], int | None]
"""The fencing token with which this node holds a mod, by the id of the mod or of its worker; 0: it does not
hold the mod now. None: the mod does not run once, and what is kept of it stays on its node."""


def stream_config(root: str) -> dict[str, Any]:
    """Return the stream, as JetStream's API takes it."""
    return {
        "subjects": [f"{root}.>"],
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_msg_ttl": True,
        "allow_atomic": True,
        "allow_direct": True,
        "duplicate_window": _WINDOW,
    }


def mod_of(mod_id: str) -> str:
    """Return the mod of a worker: a node holds all workers of a mod without copies, or none."""
    return mod_id.partition("#")[0]


class ClusterLog:
    """Accepted events of all mods that this node holds. See `DurableLog`.

    Attributes:
        unit_of: returns the mod or the copy that a worker is of; each of them has a log of its own.
    """

    def __init__(
        self, link: Link, config: JournalConfig, token_of: TokenOf, unit_of: Callable[[str], str] = mod_of
    ) -> None:
        self.unit_of = unit_of
        self.stream = link.names.stored(STREAM)
        self.root = link.subject(STREAM)
        self._link = link
        self._config = config
        self._token_of = token_of
        self._logs: dict[str, ModLog] = {}
        self._opening: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by mod: none waits for another one

    async def open(self) -> None:
        """Make the stream if it is missing. Raises ClusterError."""
        await self._link.jetstream.stream(self.stream, stream_config(self.root))

    @property
    def patience(self) -> float:
        """Seconds that one request may take."""
        return self._link.config.timeout

    async def close(self) -> None:
        """Write what waits, as long as one request may take."""
        logs = list(self._logs.values())
        if logs:
            await asyncio.wait([asyncio.ensure_future(log.fenced.flush()) for log in logs],
                               timeout=self.patience)  # fmt: skip
        for log in logs:
            await log.close()

    # -- the logs of the mods

    def is_here(self, mod_id: str) -> bool:
        """Whether what is kept of this mod is in the cluster."""
        return self._token_of(mod_id) is not None

    def token_of(self, mod_id: str) -> int | None:
        """Return the fencing token with which this node holds a mod; see `TokenOf`."""
        return self._token_of(mod_id)

    def opened(self, mod_id: str) -> ModLog | None:
        """Return the log of a mod that was used before, even if this node does not hold the mod any more."""
        return self._logs.get(self.unit_of(mod_id))

    async def of(self, mod_id: str) -> ModLog:
        """Return the log of a mod that this node holds.

        Raises:
            ModvisorError: mod_away: this node does not hold it. ClusterError: not now.
        """
        name, mod_token = self.unit_of(mod_id), self._token_of(mod_id)
        log = self._logs.get(name)
        if log is not None and log.fenced.token == mod_token and log.fenced.lost is None:
            return log
        if not mod_token:
            raise ModvisorError(f"mod {name} is not held by this node now", code=Code.MOD_AWAY)
        async with self._opening[name]:
            return await self._open(name, mod_token)

    async def _open(self, name: str, mod_token: int) -> ModLog:
        former = self._logs.get(name)
        if former is not None and former.fenced.token == mod_token:
            if former.fenced.lost is not None:
                raise former.fenced.lost
            return former
        log = self.made(name, mod_token)
        await self.read(name, log)
        if former is not None:
            await former.close()
        self._logs[name] = log
        return log

    def made(self, name: str, mod_token: int) -> ModLog:
        """Return a log of a mod or copy that was not read yet. Whoever made it closes it."""
        return ModLog(self._link.jetstream, self.stream, f"{self.root}.{token(name)}", name, mod_token)

    async def read(self, mod_id: str, *logs: ModLog) -> None:
        """Read what is kept of a mod, in all these logs at once. Raises ClusterError."""
        patience = 5 * self._link.config.timeout
        try:
            async with asyncio.timeout(patience):
                await asyncio.gather(*(log.open() for log in logs))
        except TimeoutError:
            raise NoQuorum(f"what is kept of mod {mod_id} could not be read within {patience:g} s") from None

    def log_of(self, number: int) -> ModLog | None:
        """Return the log that has an event."""
        return next((log for log in self._logs.values() if number in log.kept), None)

    # -- events

    async def accept(self, mod_id: str, event: Event, owner: str | None = None) -> int:
        log = await self.of(mod_id)
        key = owner or event.source_id or "", event.event_id
        if (kept := log.of_key(key)) is not None:
            return kept.number
        if log.formers and (answer := await log.answered_before(key)) is not None:
            raise AnsweredBefore(answer)
        packed = pack({name: value for name, value in event.to_dict().items() if name != "secret"})
        self._check_room(mod_id, len(packed))
        kept = Kept(0, mod_id, key, packed, time.time(), log.term, Record(event.attempt))
        return await self._accept(log, kept)

    async def _accept(self, log: ModLog, kept: Kept) -> int:
        for attempt in range(_MOST_TRIES):
            try:
                return log.accepted(kept, await self._stored(log, kept, log.accept(kept)))
            except Conflict:
                if (number := await self._known(log, kept, is_last=attempt == _MOST_TRIES - 1)) is not None:
                    return number
        raise NoQuorum(f"what is kept of the event {kept.key[1]} changes all the time; try again later")

    async def _known(self, log: ModLog, kept: Kept, *, is_last: bool) -> int | None:
        """Return the number of an event that is kept already; None: it may be accepted after all.

        Raises:
            AnsweredBefore: it was answered.
        """
        known = await log.known(kept.key)
        if known is None or not known.data:
            log.expect(kept.key, 0 if known is None else known.seq)
            return None
        body = log.fenced.opened(known)
        if known.subject.endswith(".a"):
            raise AnsweredBefore(body[-1])
        if (found := log.of_key(kept.key)) is not None:
            return found.number
        if is_last:
            return log.adopt(Kept.of(body, known.seq))
        with suppress(TimeoutError):
            async with asyncio.timeout(self.patience):
                await log.fenced.flush()  # it was stored after its sender was told otherwise, and is being taken away
        return None

    async def _stored(self, log: ModLog, kept: Kept, write: Write) -> int:
        """Return the number of a message, as soon as it is stored; give up when the servers do not answer."""
        patience = 2 * self._link.config.timeout
        try:
            async with asyncio.timeout(patience):
                return await asyncio.shield(write.done)
        except BaseException as error:
            self._drop(log, kept, write)  # it may be stored in the turn in which its sender gave up
            if isinstance(error, TimeoutError):
                raise NoQuorum(
                    f"the NATS servers did not store the event within {patience:g} s; more than half of them must be "
                    "up and reach each other"
                ) from None
            raise

    async def until_stored(self, log: ModLog, write: Write, what: str) -> None:
        """Wait until something is stored. Who gives up does not hinder it: it may be stored later if it was sent.

        Args:
            what: it is, for people: "the checkpoint of mod wiki".

        Raises:
            NoQuorum: the servers did not answer in time. ModvisorError: mod_away.
        """
        patience = 2 * self.patience
        while not (await asyncio.wait([write.done], timeout=patience))[0]:
            if not log.fenced.held:  # else a swap is to be recorded first
                write.is_dropped = not write.is_sent
                raise NoQuorum(
                    f"the NATS servers did not store {what} within {patience:g} s; more than half of them must be up and "
                    "reach each other"
                )
        write.done.result()

    def _drop(self, log: ModLog, kept: Kept, write: Write) -> None:
        """Nobody waits for an event any more: it is not stored, or taken away if it was."""
        write.is_dropped = True

        def ended(done: asyncio.Future[int]) -> None:
            if not done.cancelled() and done.exception() is None:
                log.withdraw(kept)

        write.done.add_done_callback(ended)

    def _check_room(self, mod_id: str, size: int) -> None:
        config = self._config
        held = self._held()
        count, taken = sum(len(log.kept) for log in held), sum(log.size for log in held)
        if count >= config.durable_events:
            raise StorageFull(
                f"{count} accepted events have no answer yet, and no more are kept (journal.durable_events)"
            )
        if taken + size > config.durable_bytes:
            raise StorageFull(
                f"the accepted events without an answer take {taken} bytes, and with {size} more they would be over the "
                f"limit of {config.durable_bytes} (journal.durable_bytes)"
            )
        most = self._link.connection().max_payload - _HEAD_ROOM
        if size > most:
            raise TooLarge(
                f"an event of {size} bytes for mod {mod_id} is larger than the NATS servers keep ({most}); "
                "raise their 'max_payload', or send less"
            )

    def answered(self, seq: int, answer: bytes | None = None) -> None:
        if (log := self.log_of(seq)) is not None:
            fits = answer is not None and len(answer) <= min(self._config.answer_bytes, self._link.most_kept)
            log.answered(seq, answer if fits else None, self._config.answer_age)

    def charge(self, seq: int, record: Record) -> None:
        if (log := self.log_of(seq)) is not None:
            log.charge(seq, record)

    def reassign(self, seq: int, mod_id: str) -> None:
        if (log := self.log_of(seq)) is not None:
            log.reassign(seq, mod_id)

    async def pending(self, mod_id: str, after: int = 0, limit: int = 1000) -> list[DurableEvent]:
        log = await self.of(mod_id)
        found: list[DurableEvent] = []
        for kept in log.kept.values():
            if kept.number > after and kept.worker == mod_id:
                found.append(_event_of(log, kept))
                if len(found) == limit:
                    break
        return found

    def pending_counts(self) -> dict[str, int]:
        """Return how many unanswered events the mods and workers have that this node holds."""
        return Counter(kept.worker for log in self._held() for kept in log.kept.values())

    def _held(self) -> list[ModLog]:
        """Return the logs of the mods that this node holds now. Those of before stay for what is under way."""
        return [log for name, log in self._logs.items() if log.fenced.token == self._token_of(name)]


def _event_of(log: ModLog, kept: Kept) -> DurableEvent:
    attempt = log.attempt(kept)
    owner = kept.key[0] or None
    event = Event.from_dict(unpack(kept.event))
    return DurableEvent(kept.number, kept.worker, event, attempt, kept.at, owner, kept.record._replace(attempt=attempt))


def is_of_cluster(seq: int) -> bool:
    """Tell whether a number is of an event that is kept in the cluster, not on this node."""
    return seq >= OFFSET
