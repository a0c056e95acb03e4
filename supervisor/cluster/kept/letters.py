"""Dead letters of a cluster: kept in JetStream, listed from memory on every node."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from functools import partial
from typing import Any

from nats.aio.msg import Msg

from ....ipc.messages import pack, unpack
from ...config import JournalConfig
from ...journal import DeadLetter, LetterHead
from ..link.following import Following
from ..link.link import Link
from ..link.names import token
from ..link.seal import NotSealed
from .durable_log import ClusterLog
from .fenced import GONE, TTL
from .mod_log import ModLog

logger = logging.getLogger("modvisor.cluster")

_SHOWN_OF_EVENT = ("event_id", "event_name", "source_id", "destination_id")
_MEMORY = 0.0  # after a lost connection the list is read anew: there are few letters


class ClusterLetters:
    """The dead letters of all mods of the network. See `LetterStore`.

    A letter is named by its number in the stream. What a holder buries is written behind its fence;
    any node may remove letters.
    """

    def __init__(self, link: Link, log: ClusterLog, config: JournalConfig) -> None:
        self._link = link
        self._log = log
        self._config = config
        self._heads: dict[str, LetterHead] = {}  # by subject
        self._seen: set[str] | None = None
        self._following = Following(
            link.jetstream, log.stream, f"{log.root}.*.*.l", self, first="last_per_subject", memory=_MEMORY
        )

    async def open(self) -> None:
        await self._following.start()
        await self._following.caught_up()

    async def close(self) -> None:
        await self._following.close()

    # -- as the reader of the stream

    def begun(self, is_fresh: bool) -> None:
        self._seen = set() if is_fresh else self._seen

    def received(self, message: Msg, seq: int) -> None:
        if self._seen is not None:
            self._seen.add(message.subject)
        if not message.data:
            self._heads.pop(message.subject, None)
            return
        try:
            self._heads[message.subject] = _head(seq, self._opened(message.subject, message.data))
        except (NotSealed, ValueError, TypeError):
            self._link.dropped["not a dead letter of ours"] += 1

    def complete(self) -> None:
        seen, self._seen = self._seen, None
        for subject in [subject for subject in self._heads if seen is not None and subject not in seen]:
            del self._heads[subject]

    def _opened(self, subject: str, data: bytes) -> Any:
        return self._link.seal.opened(data, subject.encode())

    # -- letters

    async def bury(self, letter: DeadLetter, *, seq: int | None = None) -> int:
        event = pack({name: value for name, value in letter.event.items() if name != "secret"})
        report = None if letter.report is None else pack(letter.report)
        size = len(event) + len(report or b"")
        body = [letter.mod_id, letter.at, letter.attempts, str(letter.code), letter.reason, size, event, report]
        if len(pack(body)) > self._link.most_kept:
            body[-1], size = None, len(event)  # the report; the event alone is what can be done again
        if size > self._config.dead_letter_bytes or not self._config.dead_letters:
            return self._not_kept(letter, f"{size} bytes: over journal.dead_letter_bytes", seq)
        if len(pack(body)) > self._link.most_kept:
            return self._not_kept(letter, f"{size} bytes: the NATS servers keep {self._link.most_kept}", seq)
        name, age = f"l{secrets.token_hex(8)}", self._config.dead_letter_age
        if (log := None if seq is None else self._log.log_of(seq)) is None:
            if not self._log.is_here(letter.mod_id):
                return await self._store(letter.mod_id, name, body, age)
            log = await self._log.of(letter.mod_id)
        write = log.buried(seq or 0, name, body, age)
        write.done.add_done_callback(partial(_buried, log, seq or 0))  # also if nobody waits for it any more
        number = await asyncio.shield(write.done)
        self._remember(f"{log.fenced.root}.{name}.l", number, body)
        await self._retain()
        return number

    def _not_kept(self, letter: DeadLetter, why: str, seq: int | None) -> int:
        logger.warning("a dead letter of mod %s is not kept (%s): %s", letter.mod_id, why, letter.reason)
        if seq is not None:
            self._log.answered(seq)
        return 0

    async def _store(self, mod_id: str, name: str, body: list[Any], age: float) -> int:
        """Store a letter of a mod that runs on several nodes, which has no fence as a whole."""
        subject = f"{self._log.root}.{token(mod_id.partition('#')[0])}.{name}.l"
        data = self._link.seal.sealed(body, subject.encode())
        what, headers = f"keep a dead letter of mod {mod_id}", {TTL: f"{max(1, int(age))}s"}
        number = await self._link.jetstream.store(subject, data, headers, stream=self._log.stream, what=what)
        self._remember(subject, number, body)
        await self._retain()
        return number

    def _remember(self, subject: str, number: int, body: list[Any]) -> None:
        """Show a letter here at once; other nodes learn it from the stream."""
        self._heads[subject] = _head(number, body)

    async def _retain(self) -> None:
        """Remove the oldest letters over the limits of number or bytes."""
        heads = sorted(self._living().items(), key=lambda item: item[1].letter_id)
        count, size = len(heads), sum(head.size for _, head in heads)
        for subject, head in heads:
            if count <= self._config.dead_letters and size <= self._config.dead_letter_bytes:
                return
            await self._remove(subject)
            count, size = count - 1, size - head.size

    async def _remove(self, subject: str) -> None:
        await self._link.jetstream.store(subject, b"", GONE, stream=self._log.stream, what="remove a dead letter")
        self._heads.pop(subject, None)

    def _living(self) -> dict[str, LetterHead]:
        """Return the letters whose time is not over. The servers end them without a word."""
        oldest = time.time() - self._config.dead_letter_age
        self._heads = {subject: head for subject, head in self._heads.items() if head.at >= oldest}
        return self._heads

    def stats(self) -> dict[str, int]:
        """Return how many letters the network has, and their bytes: each node knows all of them."""
        sizes = [head.size for head in self._living().values()]
        return {"dead_letters": len(sizes), "dead_letter_bytes": sum(sizes)}

    async def letter_heads(
        self, mod_id: str | None = None, *, limit: int = 1000, before: int | None = None
    ) -> list[LetterHead]:
        found = [
            head
            for head in self._living().values()
            if mod_id in (None, head.mod_id) and (before is None or head.letter_id < before)
        ]
        return sorted(found, key=lambda head: -head.letter_id)[:limit]

    async def dead_letter(self, letter_id: int) -> DeadLetter | None:
        subject = next((subject for subject, head in self._heads.items() if head.letter_id == letter_id), None)
        if subject is None:
            return None
        what = f"read the dead letter {letter_id}"
        found = await self._link.jetstream.read(self._log.stream, what=what, last_by_subj=subject)
        if found is None or not found.data:
            return None
        mod_id, at, attempts, code, reason, _, event, report = self._opened(subject, found.data)
        report = None if report is None else unpack(report)
        return DeadLetter(letter_id, mod_id, unpack(event), attempts, code, reason, report, at)

    async def forget_dead_letters(
        self, *, letter_id: int | None = None, mod_id: str | None = None, older_than: float | None = None
    ) -> int:
        until = None if older_than is None else time.time() - older_than
        wanted = [
            subject
            for subject, head in self._living().items()
            if letter_id in (None, head.letter_id)
            and mod_id in (None, head.mod_id)
            and (until is None or head.at < until)
        ]
        for subject in wanted:
            await self._remove(subject)
        return len(wanted)


def _buried(log: ModLog, seq: int, done: asyncio.Future[int]) -> None:
    if done.exception() is None:
        log.forget(seq)


def _head(letter_id: int, body: list[Any]) -> LetterHead:
    mod_id, at, attempts, code, reason, size, event, _ = body
    known = unpack(event)
    shown = {name: known.get(name) for name in _SHOWN_OF_EVENT}
    return LetterHead(letter_id, mod_id, shown, attempts, code, reason, size, at)
