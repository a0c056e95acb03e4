"""Divides what is kept of a mod among another number of copies: their states, and the accepted events.

A mod without copies is one of one, under its own id. Whoever divides it holds the claims of the mod and
of all copies, of those before and of those to come, and none of them runs. The states are written in one
step, with a note of how many copies they are for; the events follow, batch by batch, each to where its
key belongs now. If the node dies in the middle, the next one finds by the note which of the two is done,
and goes on.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import Event
from ....ipc.messages import pack, unpack
from ..link.link import Link
from ..mods.divisions import Division, Part, units_among
from .batches import batches, store_together
from .checkpoints import ClusterCheckpoints
from .durable_log import ClusterLog
from .fenced import GONE, TTL, Conflict, Put
from .heads import CheckpointHead, checkpoint_name, newest_checkpoint
from .mod_log import FORMERS, Kept, ModLog, name_of
from .mods_files import CHECKPOINT

NOTE = "parts.n"
"""Below the mod itself: for how many copies the states are."""

LARGEST_MESSAGE = 16 * 1024
"""Bytes of a state that is written with the others in one batch. A larger one is a file."""


class Splitting:
    """Divides what the cluster keeps of mods with copies.

    Args:
        answer_age: seconds for which the answers of the copies before are kept.
    """

    def __init__(self, link: Link, log: ClusterLog, checkpoints: ClusterCheckpoints, answer_age: float) -> None:
        self._link = link
        self._log = log
        self._checkpoints = checkpoints
        self._answer_age = answer_age

    async def split(self, mod_id: str, asked: Division, owner_of: Callable[[Event], int], part: Part) -> None:
        """Divide the states by `part`, and the events by `owner_of`, which returns the number of a copy.

        Raises:
            ModvisorError: it is not done, or not to the end; it can be tried again. What `part` raises: nothing is done.
        """
        logs = self._logs_of(asked)
        try:
            await self._log.read(mod_id, *logs.values())
            again, current = 0, await self._current(logs[mod_id], asked)
            if current != asked.number:
                former = units_among(mod_id, current)
                heads = {unit: await newest_checkpoint(log.fenced, unit) for unit, log in logs.items()}
                states = [await self._state(heads[unit]) for unit in former]
                version = next((head.version for unit in former if (head := heads[unit]) is not None), None)
                parts = [None] * asked.number
                if version is not None:
                    parts = await part(states, version)
                    await _closed(logs)  # its worker may have opened what is kept of the copy whose place it had
                    again, logs = 1, self._logs_of(asked)
                    await self._log.read(mod_id, *logs.values())
                await self._write_states(logs, mod_id, former, heads, version, parts)
            after = [logs[unit] for unit in units_among(mod_id, asked.number)]
            for log in logs.values():
                await self._move_events(log, after, owner_of, again)
        except Conflict:
            text = f"what is kept of mod {mod_id} was not divided: another node has one of its copies by now"
            raise ModvisorError(text, code=Code.MOD_AWAY) from None
        finally:
            await _closed(logs)

    def _logs_of(self, asked: Division) -> dict[str, ModLog]:
        return {unit: self._log.made(unit, claim) for unit, claim in asked.tokens.items()}

    @staticmethod
    async def _current(whole: ModLog, asked: Division) -> int:
        """Return for how many copies the states are."""
        found = await whole.fenced.newest(f"{whole.fenced.root}.{NOTE}")
        noted = None if found is None or not found.data else int(whole.fenced.opened(found))
        return asked.parts if asked.towards is None or noted != asked.towards else asked.towards

    # -- states

    async def _write_states(
        self,
        logs: dict[str, ModLog],
        mod_id: str,
        former: list[str],
        heads: dict[str, CheckpointHead | None],
        version: str | None,
        parts: list[Any],
    ) -> None:
        """Put the states in the place of the former ones."""
        whole, before = logs[mod_id], [logs[unit] for unit in former]
        shares = dict(zip(units_among(mod_id, len(parts)), parts, strict=True))
        puts, files = [whole.fenced.put(NOTE, len(parts))], list[str]()
        for unit, log in logs.items():
            if version is not None and (state := shares.get(unit)) is not None:
                puts.append(log.fenced.put(checkpoint_name(unit), await self._body(unit, version, state, files)))
            elif heads[unit] is not None:
                puts.append(log.fenced.put(checkpoint_name(unit), None))
            if unit in shares:
                puts += self._formers(log, before)
            elif log.formers:  # what it has answered goes with what it has kept
                puts.append(log.fenced.put(FORMERS, None))
        try:
            async with whole.fenced.lock:
                await store_together(whole, (log for log in logs.values() if log is not whole), puts)
        except Conflict:  # after any other error it may be stored later: if it is not, a sweep finds the files
            await self._drop(files)
            raise
        await self._drop([head.file for head in heads.values() if head is not None])

    async def _state(self, head: CheckpointHead | None) -> Any:
        if head is None:
            return None
        packed = await self._checkpoints.files.get(head.file) if head.file else head.packed
        if packed is None:
            raise head.gone()
        return unpack(packed)

    async def _body(self, mod_id: str, version: str, state: Any, files: list[str]) -> list[Any]:
        packed, file = pack(state), ""
        if len(packed) > min(LARGEST_MESSAGE, self._link.most_kept):
            file = await self._checkpoints.files.put(CHECKPOINT, mod_id, packed)
            files.append(file)
        return list(CheckpointHead.of(mod_id, version, time.time(), packed, file))

    def _formers(self, log: ModLog, before: list[ModLog]) -> Iterator[Put]:
        """An event that comes again may have been answered by any of the copies before."""
        if self._answer_age >= 1:
            roots = [each.fenced.root for each in before if each is not log]
            roots += [root for root in log.formers if root not in roots]
            yield log.fenced.put(FORMERS, roots, {TTL: f"{int(self._answer_age)}s"})

    async def _drop(self, files: list[str]) -> None:
        for file in files:
            self._checkpoints.files.drop_soon(file)
        await self._checkpoints.files.dropped()

    # -- events

    async def _move_events(
        self, source: ModLog, after: list[ModLog], owner_of: Callable[[Event], int], again: int
    ) -> None:
        by_owner: defaultdict[int, list[Kept]] = defaultdict(list)
        for kept in list(source.kept.values()):
            by_owner[owner_of(Event.from_dict(unpack(kept.event)))].append(kept)
        for owner, events in by_owner.items():
            target = after[owner]
            for batch in batches((_moved(kept, source, target, again) for kept in events), []):
                async with source.fenced.lock:
                    await store_together(source, [] if target is source else [target], batch)


def _moved(kept: Kept, source: ModLog, target: ModLog, again: int) -> Iterator[Put]:
    """Return what gives an event to a copy. That copy is opened once more, which is no further attempt.

    Args:
        again: how many times more than once both were opened here.
    """
    name = f"{name_of(kept.key)}.e"
    attempt = source.attempt(kept) - again
    moved = Kept(kept.number, target.fenced.mod_id, kept.key, kept.event, kept.at, target.term + 1,
                 kept.record._replace(attempt=attempt))  # fmt: skip
    yield target.fenced.put(name, moved.body())
    if target is not source:
        yield Put(f"{source.fenced.root}.{name}", b"", GONE)


async def _closed(logs: dict[str, ModLog]) -> None:
    for log in logs.values():
        await log.close()
