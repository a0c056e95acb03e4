"""The journal of a node of a cluster: what must outlive the node is in JetStream, the rest in its file."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from ....ipc.event import Event
from ...config import JournalConfig
from ...journal import Checkpoint, DeadLetter, DurableEvent, Forgotten, Journal, KeptMod, LetterHead, Record
from ..link.link import Link
from .checkpoints import ClusterCheckpoints
from .durable_log import ClusterLog, TokenOf, is_of_cluster, mod_of
from .handing_on import HandingOn
from .letters import ClusterLetters
from .splitting import Splitting


class ClusterJournal(Journal):
    """The journal of one node.

    Accepted events and checkpoints of mods that run once, and all dead letters, are in JetStream.
    Those of mods that run on all nodes, crash reports, figures and loaded mods are in the node's file.

    Args:
        token_of: the fencing token of each mod that runs once; see `TokenOf`.
        unit_of: see `ClusterLog`.

    Attributes:
        forget_elsewhere: deletes what the cluster and its other nodes have of an agent.
    """

    def __init__(
        self, file: Path, config: JournalConfig, link: Link, token_of: TokenOf, unit_of: Callable[[str], str] = mod_of
    ) -> None:
        super().__init__(file, config)
        self.config = config
        self.forget_elsewhere: Callable[[str], Awaitable[Forgotten]] | None = None
        self.log = ClusterLog(link, config, token_of, unit_of)
        self.checkpoints = ClusterCheckpoints(link, self.log, config)
        self.letters = ClusterLetters(link, self.log, config)
        self.handing_on = HandingOn(config.answer_age)
        self.splitting = Splitting(link, self.log, self.checkpoints, config.answer_age)

    async def join(self) -> None:
        """Open what is in JetStream, when the link is open. Raises ClusterError."""
        await self.log.open()
        await self.checkpoints.open()
        await self.letters.open()

    async def leave(self) -> None:
        """Write what waits, before the link closes."""
        await self.handing_on.close(self.log.patience)
        await self.log.close()
        await self.checkpoints.close()
        await self.letters.close()

    # -- accepted events

    async def accept(self, mod_id: str, event: Event, owner: str | None = None) -> int:
        if self.log.is_here(mod_id):
            return await self.log.accept(mod_id, event, owner)
        return await super().accept(mod_id, event, owner)

    def answered(self, seq: int, answer: bytes | None = None) -> None:
        if is_of_cluster(seq):
            self.log.answered(seq, answer)
        else:
            super().answered(seq, answer)

    def charge(self, seq: int, record: Record) -> None:
        if is_of_cluster(seq):
            self.log.charge(seq, record)
        else:
            super().charge(seq, record)

    def reassign(self, seq: int, mod_id: str) -> None:
        if is_of_cluster(seq):
            self.log.reassign(seq, mod_id)
        else:
            super().reassign(seq, mod_id)

    async def pending(self, mod_id: str, after: int = 0, limit: int = 1000) -> list[DurableEvent]:
        if self.log.is_here(mod_id):
            return await self.log.pending(mod_id, after, limit)
        return await super().pending(mod_id, after, limit)

    async def pending_counts(self) -> dict[str, int]:
        return {**await super().pending_counts(), **self.log.pending_counts()}

    # -- checkpoints

    async def save_checkpoint(self, mod_id: str, version: str, state: Any) -> None:
        if self.log.is_here(mod_id):
            await self.checkpoints.save_checkpoint(mod_id, version, state)
        else:
            await super().save_checkpoint(mod_id, version, state)

    async def checkpoint(self, mod_id: str) -> Checkpoint | None:
        if self.log.is_here(mod_id):
            return await self.checkpoints.checkpoint(mod_id)
        return await super().checkpoint(mod_id)

    async def checkpoint_head(self, mod_id: str) -> tuple[str, float, int] | None:
        if self.log.is_here(mod_id):
            return await self.checkpoints.checkpoint_head(mod_id)
        return await super().checkpoint_head(mod_id)

    def drop_checkpoint(self, mod_id: str) -> None:
        if self.log.is_here(mod_id):
            self.checkpoints.drop_checkpoint(mod_id)
        else:
            super().drop_checkpoint(mod_id)

    def forget_mod(self, mod_id: str, workers: Sequence[str]) -> None:
        super().forget_mod(mod_id, workers)
        for worker in {mod_id, *workers}:
            self.checkpoints.drop_checkpoint(worker)

    async def forget_agent(self, agent_id: str) -> Forgotten:
        """Delete what this node has of an agent, and what the cluster and its other nodes have."""
        forgotten = await self.forget_agent_here(agent_id)
        return forgotten if self.forget_elsewhere is None else forgotten + await self.forget_elsewhere(agent_id)

    async def forget_agent_here(self, agent_id: str) -> Forgotten:
        return await super().forget_agent(agent_id)

    def hand_on(self, former: str, mod_id: str, entry: KeptMod | None = None) -> None:
        """Do so for mods that run once, if `open_for` has opened what is kept of both."""
        super().hand_on(former, mod_id, entry)
        if self.log.is_here(former):
            source, target = self.log.opened(former), self.log.opened(mod_id)
            if source is not None and target is not None:
                self.handing_on.begin(former, source, mod_id, target)

    async def open_for(self, *mod_ids: str) -> None:
        """Open what is kept of mods that this node holds. Raises as `ClusterLog.of`."""
        for mod_id in mod_ids:
            await (await self.log.of(mod_id)).read_heads()

    async def handed_on(self, former: str, mod_id: str) -> None:
        """Write down what a mod was given, whose swap is recorded. Raises as `HandingOn.done`."""
        if (target := self.log.opened(mod_id)) is not None:
            self.handing_on.permit(target)
            await self.handing_on.done(target)

    async def not_handed_on(self, former: str, mod_id: str) -> None:
        """Have it be as it was: the swap failed."""
        source, target = self.log.opened(former), self.log.opened(mod_id)
        if source is not None and target is not None:
            await self.handing_on.give_up(source, target)

    def workers_of(self, mod_id: str) -> list[str]:
        """Return the workers for which accepted events of a mod are kept, besides the mod itself."""
        log = self.log.opened(mod_id)
        return [] if log is None else sorted({kept.worker for kept in log.kept.values()} - {mod_id})

    # -- dead letters

    def stats(self) -> dict[str, Any]:
        return {**super().stats(), **self.letters.stats()}

    async def bury(self, letter: DeadLetter, *, seq: int | None = None) -> int:
        number = await self.letters.bury(letter, seq=seq)
        if seq is not None and not is_of_cluster(seq):
            super().answered(seq)
        return number

    async def letter_heads(
        self, mod_id: str | None = None, *, limit: int = 1000, before: int | None = None
    ) -> list[LetterHead]:
        return await self.letters.letter_heads(mod_id, limit=limit, before=before)

    async def dead_letters(
        self, mod_id: str | None = None, *, limit: int = 1000, before: int | None = None
    ) -> list[DeadLetter]:
        heads = await self.letters.letter_heads(mod_id, limit=limit, before=before)
        letters = [await self.letters.dead_letter(head.letter_id) for head in heads]
        return [letter for letter in letters if letter is not None]

    async def dead_letter(self, letter_id: int) -> DeadLetter | None:
        return await self.letters.dead_letter(letter_id)

    async def forget_dead_letters(
        self, *, letter_id: int | None = None, mod_id: str | None = None, older_than: float | None = None
    ) -> int:
        return await self.letters.forget_dead_letters(letter_id=letter_id, mod_id=mod_id, older_than=older_than)
