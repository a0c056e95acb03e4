"""Deletes what a cluster keeps of one agent. See `journal.forgetting` for what is found, and what is not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, replace
from typing import Any

from ....ipc.address import AGENT
from ....ipc.errors import Code, ModvisorError
from ....ipc.messages import pack, unpack
from ...journal import Forgotten, masked
from ..kept.durable_log import STREAM as DURABLE
from ..kept.fenced import GONE, TTL
from ..kept.journal import ClusterJournal
from ..link.buckets import Bucket
from ..link.errors import ClusterError
from ..link.link import Link
from ..link.names import token
from ..link.newest import newest_of
from ..link.wire import Reply
from . import keys
from .homes import Nodes
from .inbox_stream import STREAM as INBOX

BUCKET = "agents"
_FOREVER = 86400 * 365.0


class Forgetting:
    """Forgets agents of one network. Every method raises ClusterError."""

    def __init__(self, link: Link, bucket: Bucket, letter_age: float = _FOREVER) -> None:
        self._link = link
        self._bucket = bucket
        self._letter_age = letter_age
        self._stream = link.names.stored(DURABLE)

    async def forget(self, agent_id: str) -> Forgotten:
        """Delete what mods have left of an agent: its dead letters, answers to it, its name in reports and channels.

        Returns:
            what was deleted; of its registration, memberships and invites only whether they are there.
        """
        source = f"{AGENT}:{agent_id}"
        names = {agent_id, source}
        found = replace(Forgotten(), **await self._registered(agent_id, deletes=False))
        kept, _ = await newest_of(self._link, self._stream, f"{self._link.subject(DURABLE)}.>")
        for subject, (body, seq) in kept.items():
            match subject.rpartition(".")[2]:
                case "e" if not subject.endswith(".fence.e") and _is_of(body[2], names, source):
                    found = replace(found, waiting=found.waiting + 1)
                case "a" if _is_of(body[0], names, source):
                    await self._erase(subject, seq)
                    found = replace(found, answers=found.answers + 1)
                case "l":
                    found = await self._letter(subject, seq, body, names, found)
                case _:
                    pass
        await self._forget_maker(agent_id)
        return found

    async def forget_all(self, agent_id: str) -> Forgotten:
        """Delete everything, while no node runs: also the registration, memberships, invites and the inbox."""
        found = await self.forget(agent_id)
        await self._registered(agent_id, deletes=True)
        subject = f"{self._link.subject(INBOX, agent_id)}.>"
        what, stream = f"empty the inbox of agent {agent_id}", self._link.names.stored(INBOX)
        await self._link.jetstream.request(f"STREAM.PURGE.{stream}", {"filter": subject}, what=what)
        return found

    async def _registered(self, agent_id: str, *, deletes: bool) -> dict[str, Any]:
        """Count the keys of an agent."""
        name, counts = token(agent_id), {"registered": 0, "channels": 0, "invites": 0}
        for key, (value, revision) in (await self._bucket.all()).items():
            kind, *rest = key.split(".")
            match kind:
                case keys.AGENT if rest == [name]:
                    counts["registered"] += 1
                case keys.MEMBER if rest[-1] == name:
                    counts["channels"] += 1
                case keys.INVITE if value["agent"] == agent_id:
                    counts["invites"] += 1
                case _:
                    continue
            if deletes:
                await self._bucket.delete(key, revision)
        return {**counts, "registered": bool(counts["registered"])}

    async def _forget_maker(self, agent_id: str) -> None:
        for key, (value, revision) in (await self._bucket.all(f"{keys.CHANNEL}.")).items():
            if value.get("created_by") == agent_id:
                await self._bucket.update(key, {**value, "created_by": None}, revision)

    async def _letter(self, subject: str, seq: int, body: list[Any], names: set[str], found: Forgotten) -> Forgotten:
        event, report = unpack(body[6]), None if body[7] is None else unpack(body[7])
        if any(event.get(end) in names for end in ("source_id", "destination_id")):
            await self._erase(subject, seq)
            await self._link.jetstream.store(subject, b"", GONE, stream=self._stream, what="remove a dead letter")
            return replace(found, dead_letters=found.dead_letters + 1)
        if report is None or not masked(report, names):
            return found
        left = max(1, int(body[1] + self._letter_age - time.time()))
        data = self._link.seal.sealed([*body[:7], pack(report)], subject.encode())
        await self._link.jetstream.store(subject, data, {TTL: f"{left}s"}, stream=self._stream, what="mask a report")
        return replace(found, reports=found.reports + 1)

    async def _erase(self, subject: str, seq: int) -> None:
        """Delete a message, and have the server overwrite it."""
        await self._link.jetstream.request(
            f"STREAM.MSG.DELETE.{self._stream}", {"seq": seq}, what=f"delete what is kept on {subject}"
        )


class ForgettingEverywhere:
    """Has an agent forgotten by the cluster, and by the other nodes, which have crash reports of their own.

    Args:
        nodes: which nodes are in the network.
    """

    def __init__(self, link: Link, nodes: Nodes, journal: ClusterJournal) -> None:
        self._link, self._nodes, self._journal = link, nodes, journal
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Forget agents when other nodes ask for it."""
        await self._link.serve(self._link.subject("node", self._link.node, "forget"), self._asked)
        self._journal.forget_elsewhere = self._forget

    async def _forget(self, agent_id: str) -> Forgotten:
        """Delete what is not on this node.

        Raises:
            ModvisorError: timeout: a node does not answer. It may be done again.
        """
        bucket = await self._link.bucket(BUCKET)
        found = await Forgetting(self._link, bucket, self._journal.config.dead_letter_age).forget(agent_id)
        for node in sorted(set(self._nodes.nodes) - {self._link.node}):
            subject = self._link.subject("node", node, "forget")
            try:
                said = await self._link.ask(subject, agent_id, timeout=self._link.config.timeout)
            except (ClusterError, TimeoutError) as error:
                text = (
                    f"node {node!r} has not forgotten agent {agent_id!r} ({error or 'it does not answer'}); do it again"
                )
                raise ModvisorError(text, code=Code.TIMEOUT) from None
            if isinstance(said, str):
                raise ModvisorError(
                    f"node {node!r} has not forgotten agent {agent_id!r}: {said}", code=Code.STORAGE_FULL
                )
            found += Forgotten(**said)
        return found

    def _asked(self, agent_id: str, reply: Reply) -> None:
        task = asyncio.get_running_loop().create_task(self._forget_here(agent_id, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _forget_here(self, agent_id: str, reply: Reply) -> None:
        try:
            reply(asdict(await self._journal.forget_agent_here(agent_id)))
        except ModvisorError as error:
            reply(str(error))


def _is_of(owner: str, names: set[str], source: str) -> bool:
    """Return whether an agent sent an event; its owner is named with the time of its registration."""
    return owner in names or owner.startswith(f"{source} ")
