"""What the holder of a mod keeps of it: accepted events with their answers, and checkpoints.

Below the mod's subject lie `HASH.e` (an accepted event), `HASH.a` (its answer, for a while: owner, id, time, answer) and
`WORKER.c` (the checkpoint of a worker); `fence.e` is the fence. HASH is of the event's owner and id.
An event is taken only if neither `HASH.e` nor `HASH.a` is there, and its answer takes its place in
one step, so an event that is sent again is never handled twice. `former.r` names the mods whose place
this one has taken, where the answers of before still are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from nats.aio.msg import Msg

from ...journal import Record
from ..link.following import Following
from ..link.jetstream import JetStream, Stored
from ..link.seal import NotSealed
from .fenced import EXPECTED, EXPECTED_OF, TTL, Fenced, Write
from .heads import Head, read_heads

OFFSET = 1 << 48
"""Added to the numbers of a stream, so that they are none of the local journal's."""

FORMERS = "former.r"

Key = tuple[str, str]


def name_of(key: Key) -> str:
    """Return the token for an event's owner and id."""
    return blake2b("\0".join(key).encode(), digest_size=16).hexdigest()


@dataclass(slots=True)
class Kept:
    """An accepted event.

    Attributes:
        number: by which the network knows it: of its first message, with `OFFSET`.
        worker: the mod or worker that it is for.
        term: in which its record was written. Each later term counts as one more attempt.
        event: packed.
    """

    number: int
    worker: str
    key: Key
    event: bytes
    at: float
    term: int
    record: Record

    def body(self) -> list[Any]:
        return [self.number, self.worker, *self.key, self.event, self.at, self.term, list(self.record)]

    @classmethod
    def of(cls, body: list[Any], seq: int) -> Kept:
        number, worker, owner, event_id, event, at, term, record = body
        return cls(number or seq + OFFSET, worker, (owner, event_id), event, at, term, Record(*record))


class ModLog:
    """What is kept of one mod, while this node holds it.

    Attributes:
        kept: the accepted events without an answer, by number, in order.
        size: bytes of these events.
        formers: the subjects of the mods whose place this one has taken, the newest first.
        heads: the files of the mod by name, once `read_heads` has read them.
        changing: held while one of them changes.
        checkpoint_files: the file of the newest checkpoint of each worker, as far as this holder has read or written
            it; empty: it has none.
        permits: by what gives to it: set when it is recorded that this mod has its place; see `HandingOn`.
        heirs: called when an event was accepted for a worker whose place another one has by now.
    """

    def __init__(self, jetstream: JetStream, stream: str, root: str, mod_id: str, token: int) -> None:
        self.fenced = Fenced(jetstream, stream, root, mod_id, token)
        self.kept: dict[int, Kept] = {}
        self.size = 0
        self.formers: list[str] = []
        self.heirs: dict[str, Callable[[], None]] = {}
        self.permits: dict[ModLog, asyncio.Event] = {}
        self.heads: dict[str, Head] | None = None
        self.changing = asyncio.Lock()
        self.checkpoint_files: dict[str, str] = {}
        self._by_name: dict[str, Kept] = {}
        self._gone: dict[str, int] = {}
        self._jetstream = jetstream
        self._stream = stream

    async def open(self) -> None:
        """Shut out older holders, and read the events that they left.

        Raises:
            ClusterError: not now.
            ModvisorError: mod_away: this node is an older holder.
        """
        await self.fenced.raise_fence()
        backlog = _Backlog(self.fenced)
        following = Following(self._jetstream, self._stream, f"{self.fenced.root}.*.e", backlog, first="all", memory=0)
        await following.start()
        try:
            await backlog.is_read.wait()
        finally:
            await following.close()
        for kept in sorted(backlog.found.values(), key=lambda each: each.number):
            self._enter(kept)
        former = await self.fenced.newest(f"{self.fenced.root}.{FORMERS}")
        self.formers = [] if former is None or not former.data else self.fenced.opened(former)

    async def close(self) -> None:
        await self.fenced.close()

    async def read_heads(self) -> dict[str, Head]:
        """Return the files of the mod by name; this holder alone changes them. Raises ClusterError."""
        if self.heads is None:
            async with self.changing:
                if self.heads is None:
                    self.heads = await read_heads(self._jetstream, self._stream, self.fenced)
        return self.heads

    def give_files(self, to: ModLog) -> list[Head]:
        """Give the files to another mod, and return them. `HandingOn` writes it down."""
        given = list((self.heads or {}).values())
        if self.heads is not None and to.heads is not None:
            to.heads |= self.heads
            self.heads.clear()
        return given

    @property
    def term(self) -> int:
        return self.fenced.fence.term

    def _enter(self, kept: Kept) -> None:
        self.kept[kept.number] = kept
        self.size += len(kept.event)
        self._by_name[name_of(kept.key)] = kept

    def _leave(self, number: int) -> Kept | None:
        if (kept := self.kept.pop(number, None)) is not None:
            self._by_name.pop(name_of(kept.key), None)
            self.size -= len(kept.event)
        return kept

    def of_key(self, key: Key) -> Kept | None:
        return self._by_name.get(name_of(key))

    def attempt(self, kept: Kept) -> int:
        """Return the next attempt: an event that an earlier holder had may have been begun."""
        return kept.record.attempt + self.term - kept.term

    # -- events

    def accept(self, kept: Kept) -> Write:
        """Store an event, unless it or its answer is there. `accepted` enters it afterwards."""
        name = name_of(kept.key)
        headers = {EXPECTED: str(self._gone.pop(name, 0)), EXPECTED_OF: f"{self.fenced.root}.{name}.*"}
        return self.fenced.write(self.fenced.put(f"{name}.e", kept.body(), headers))

    def accepted(self, kept: Kept, seq: int) -> int:
        kept.number = seq + OFFSET
        return self.adopt(kept)

    def expect(self, key: Key, seq: int) -> None:
        """Accept an event next time though message ``seq`` is there, which says that it was taken away."""
        self._gone[name_of(key)] = seq

    def adopt(self, kept: Kept) -> int:
        """Take over an event that is stored and was not known here."""
        self._enter(kept)
        if (hand_on := self.heirs.get(kept.worker)) is not None:
            hand_on()
        return kept.number

    async def known(self, key: Key) -> Stored | None:
        """Return what is stored of an event: its answer, or else the event, or what says that it is gone."""
        root = f"{self.fenced.root}.{name_of(key)}"
        found = await self.fenced.newest(f"{root}.a")
        return found if found is not None and found.data else await self.fenced.newest(f"{root}.e")

    async def answered_before(self, key: Key) -> bytes | None:
        """Return the answer that a mod gave whose place this one has taken."""
        for root in self.formers:
            found = await self.fenced.newest(f"{root}.{name_of(key)}.a")
            if found is not None and found.data:
                return self.fenced.opened(found)[-1]
        return None

    def give(self, former: str, to: ModLog, worker: str) -> list[Kept]:
        """Give the events for a worker to the worker of another mod, and return them. `HandingOn` writes it down."""
        given = [kept for kept in self.kept.values() if kept.worker == former]
        for kept in given:
            self._leave(kept.number)
            kept.record, kept.term = kept.record._replace(attempt=self.attempt(kept)), to.term
            kept.worker = worker
            if to.of_key(kept.key) is None:  # else the successor has accepted it too: it is the same event
                to._enter(kept)
        return given

    def withdraw(self, kept: Kept) -> None:
        """Take away an event that was stored after its sender was told that it could not be."""
        self.fenced.write(self.fenced.put(f"{name_of(kept.key)}.e", None), is_lasting=True)

    def answered(self, number: int, answer: bytes | None, seconds: float) -> Write | None:
        """Put the answer in the place of an event, for some seconds."""
        if (kept := self._leave(number)) is None:
            return None
        name = name_of(kept.key)
        puts = [self.fenced.put(f"{name}.e", None)]
        if answer is not None and seconds >= 1:
            body = [*kept.key, time.time(), answer]
            puts.insert(0, self.fenced.put(f"{name}.a", body, {TTL: f"{int(seconds)}s"}))
        return self.fenced.write(*puts, is_lasting=True)

    def charge(self, number: int, record: Record) -> None:
        if (kept := self.kept.get(number)) is not None:
            kept.record, kept.term = record, self.term
            self._rewrite(kept)

    def reassign(self, number: int, worker: str) -> None:
        if (kept := self.kept.get(number)) is not None:
            kept.worker = worker
            self._rewrite(kept)

    def _rewrite(self, kept: Kept) -> None:
        self.fenced.write(self.fenced.put(f"{name_of(kept.key)}.e", kept.body()), is_lasting=True)

    def buried(self, number: int, letter: str, body: list[Any], seconds: float) -> Write:
        """Put a dead letter in the place of an event, if the event is there."""
        kept = self.kept.get(number)
        put = self.fenced.put(f"{letter}.l", body, {TTL: f"{max(1, int(seconds))}s"})
        gone = [] if kept is None else [self.fenced.put(f"{name_of(kept.key)}.e", None)]
        return self.fenced.write(put, *gone)

    def forget(self, number: int) -> None:
        """Leave out an event whose dead letter was stored in its place."""
        self._leave(number)


def may_be_stored(write: Write) -> bool:
    """Return whether a write that has failed may be stored all the same, and the next holder has what it names."""
    return write.is_sent and not write.is_dropped


class _Backlog:
    """Reads what earlier holders left, until the fence that this holder raised."""

    def __init__(self, fenced: Fenced) -> None:
        self.found: dict[str, Kept] = {}
        self.is_read = asyncio.Event()
        self._fenced = fenced

    def begun(self, is_fresh: bool) -> None:
        if is_fresh:
            self.found.clear()

    def received(self, message: Msg, seq: int) -> None:
        if message.subject == f"{self._fenced.root}.fence.e":
            if seq >= self._fenced.fence.seq:
                self.is_read.set()
        elif not message.data:
            self.found.pop(message.subject, None)
        else:
            self._enter(message, seq)

    def _enter(self, message: Msg, seq: int) -> None:
        try:
            body = self._fenced.opened(Stored(message.subject, seq, message.data))
            self.found[message.subject] = Kept.of(body, seq)
        except (NotSealed, ValueError, TypeError):
            self._fenced.drop("not an event of ours")

    def complete(self) -> None: ...
