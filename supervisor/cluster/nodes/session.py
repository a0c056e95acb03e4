"""The session of this node: the one lease under which it may run exclusive mods.

A session is a key with a time to live (TTL), `cluster.lease`, that this node renews four times in that
time. Whoever sees the key go knows that the node runs nothing exclusive any more. So this node must
be the first to know. Its *deadline* is the moment of *sending* the last renewal that was
acknowledged, plus the TTL, less a margin. The clock is CLOCK_BOOTTIME, which goes on while the machine
is suspended; no pause is forgiven. At the deadline the kernel kills the exclusive workers
(`supervisor.process.leases`), even if this process is stopped.

A renewal whose answer is lost may be stored. The next one then fails, since the key has another
revision than expected. So each write has a number: if the key holds one of our own writes, the
session goes on from there, and the deadline counts from the sending of that write.

A lost session is not taken up again. When all workers that lived by it have ended, the node joins
with a new one, again and again until that works. Nothing ends that but `leave`: an error that nobody
expected is a renewal, or an attempt to join, that failed.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from ....ipc import __version__
from ....ipc.errors import ModvisorError
from ...config import ClusterConfig
from ...process import Leases, boottime
from ..link.buckets import Bucket, Entry
from ..link.errors import ClusterError, Gone, NameTaken, NoQuorum, Taken
from ..link.link import Link
from ..link.names import PROTOCOL, token
from .members import Members, NodeInfo, session_id, told_each

logger = logging.getLogger("modvisor.cluster")

NODES = "nodes"

MARGIN = 0.1
"""The part of the TTL by which the deadline of this node comes before the end that others see."""

RENEWALS = 4
"""Renewals in one TTL."""

RETRIES = 20
"""Attempts in one TTL after a renewal that failed at once."""

PATIENCE = 1.5
"""Times the TTL that a node waits for an earlier session of its name to end: that of a run that was killed."""

SLACK = 1.0
"""Seconds besides, because the servers look for ended keys about once a second."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 0.5  # seconds between attempts to join again


class Session:
    """The session of one node. `join` begins it, and from then on it is kept until `leave`.

    Attributes:
        id: ``NODE/REVISION``, the revision of its first write; None while the node has no session.
        leases: what the exclusive workers of this node live by.
        listeners: called when nodes come, go or say something new, and when `id` changes.
        checks: awaited when others can see the new session; what they raise says why this node may not join.
        on_lost: called with the reason when the session is lost. Its workers are being killed by then.
    """

    def __init__(self, link: Link, config: ClusterConfig, version: str = __version__) -> None:
        self.node = config.node
        self.id: str | None = None
        self.leases = Leases()
        self.leases.on_over = self._late
        self.on_lost: list[Callable[[str], None]] = []
        self.checks: list[Callable[[], Awaitable[None]]] = []
        self._members = Members()
        self.listeners = self._members.listeners
        self._link = link
        self._ttl = config.lease
        self._key = token(config.node)
        self._bucket: Bucket | None = None
        self._revision = 0
        self._number = 0  # of the last write
        self._sent: dict[int, float] = {}  # when each write was sent whose fate is unknown
        self._value: dict[str, Any] = {
            "node": config.node,
            "instance": link.instance,
            "labels": list(config.labels),
            "version": version,
            "protocol": PROTOCOL,
            "started_at": time.time(),
        }
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._soon = asyncio.Event()
        self._problem = ""  # of the last renewal

    @property
    def nodes(self) -> dict[str, NodeInfo]:
        """The nodes that are there, by name, this node among them."""
        return self._members.nodes

    @property
    def is_blind(self) -> bool:
        """Whether this node does not hear now which nodes come and go."""
        return self._members.is_blind

    @property
    def deadline(self) -> float:
        """When the session ends unless it is renewed, in seconds of `boottime`; 0.0: there is none."""
        return self.leases.deadline

    def describe(self, *, soon: bool = False, **more: Any) -> None:
        """Tell the other nodes more of this one, with the next renewal.

        Args:
            soon: renew at once.
        """
        self._value.update(more)
        if soon:
            self._soon.set()

    # -- life

    async def join(self) -> None:
        """Begin a session.

        Raises:
            NameTaken: another node has this name.
            ClusterError: the servers do not keep it.
            LeaseLost, OSError: this system cannot end workers at a deadline.
        """
        bucket = await self._link.bucket(NODES)
        await self._members.open(bucket)
        try:
            await self._begin(bucket)
        except BaseException:
            await self._members.close()
            raise
        self._task = asyncio.get_running_loop().create_task(self._live(), name="session")

    async def leave(self) -> None:
        """End the session, so that others need not wait for its end. The exclusive mods have been stopped."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        held, self.id = self.id, None
        await self.leases.close()
        if held is not None and self._bucket is not None:
            with suppress(ClusterError):
                await self._delete(self._bucket)
        await self._members.close()

    async def _live(self) -> None:
        while True:
            await self._renew_until_lost()
            await self.leases.close()
            await self._join_again()

    # -- the beginning

    async def _begin(self, bucket: Bucket) -> None:
        """Write the key of a new session, when that of an earlier one is gone."""
        patience = boottime() + max(PATIENCE * self._ttl, self._ttl + SLACK)
        other = _Other()
        while True:
            try:
                revision, sent = await self._create(bucket)
                break
            except Taken:
                found = await bucket.get(self._key)
            if found is None:
                continue
            if self._is_ours(found):
                with suppress(Taken):
                    await bucket.delete(self._key, found.revision)
                continue
            if other.is_alive(found) or boottime() > patience:
                raise self._name_taken(found)
            await asyncio.sleep(self._ttl / RENEWALS)
        await self._check(bucket, revision)
        self._bucket, self._revision = bucket, revision
        self._value["session"] = session_id(self.node, revision)
        self._lost.clear()
        await self.leases.begin(self._deadline_from(sent))
        self.id = self._value["session"]
        self._members.tell()

    async def _check(self, bucket: Bucket, revision: int) -> None:
        """Ask whether this node may join, which others can see by now; if not, end the session."""
        try:
            for check in self.checks:
                await check()
        except BaseException:
            with suppress(ClusterError):
                await bucket.delete(self._key, revision)
            raise

    async def _create(self, bucket: Bucket) -> tuple[int, float]:
        self._value["session"] = None
        self._sent.clear()
        sent = boottime()
        async with asyncio.timeout(self._ttl / 3 if self._task is not None else None):  # it is tried again
            return await bucket.create(self._key, self._numbered(sent), ttl=self._ttl), sent

    def _name_taken(self, found: Entry) -> NameTaken:
        since = time.strftime("%H:%M:%S", time.localtime(found.value.get("started_at", 0)))
        return NameTaken(
            f"another node of the network is named '{self.node}' (it runs since {since}); two nodes of one name cannot "
            "be told apart: give this one another name with 'modvisor run --node NAME' or 'cluster.node', or stop the other"
        )

    async def _join_again(self) -> None:
        pause, said, bucket = FIRST_PAUSE, "", self._bucket
        while True:
            try:
                await self._begin(bucket or await self._link.bucket(NODES))
            except Exception as error:
                bucket = None if isinstance(error, Gone) else bucket
                if (why := _why(error)) != said:
                    said = why
                    unexpected = None if isinstance(error, (ModvisorError, OSError)) else error
                    logger.warning("node '%s' cannot join again yet: %s", self.node, why, exc_info=unexpected)
            else:
                logger.info("node '%s' has joined again", self.node)
                return
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, LONGEST_PAUSE)

    # -- renewals

    async def _renew_until_lost(self) -> None:
        renewals = asyncio.create_task(self._renewals())
        try:
            await self._lost.wait()
        finally:
            renewals.cancel()
            with suppress(asyncio.CancelledError):
                await renewals

    async def _renewals(self) -> None:
        pause = self._ttl / RENEWALS
        while self.id is not None:
            self._soon.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._soon.wait()
            try:
                async with asyncio.timeout(self._ttl / 3):
                    await self._renew()
            except Exception as error:
                if not isinstance(error, (TimeoutError, ClusterError)):
                    logger.exception("node '%s' could not renew its session; this is tried again", self.node)
                self._problem = _why(error)
                pause = self._ttl / RETRIES
            else:
                pause = self._ttl / RENEWALS

    async def _renew(self) -> None:
        assert self._bucket is not None
        sent = boottime()
        if sent >= self.deadline:
            return self._late()
        value = self._numbered(sent)
        try:
            self._revision = await self._bucket.update(self._key, value, self._revision, ttl=self._ttl)
        except Taken:
            await self._find_out()
        else:
            self._renewed(value["renewal"])

    async def _find_out(self) -> None:
        """A write was refused: a write of ours is stored whose answer was lost, or is on its way, or the session is over.

        While an earlier write waits for a quorum, its leader refuses the next one and still reads out the one before
        both. A leader that was replaced and does not know it reads out an old one, too. Neither is the end.
        """
        assert self._bucket is not None
        found = await self._bucket.get(self._key)
        if found is None:
            return self._lose("its key is gone")
        is_ours = self._is_ours(found)
        if found.revision > self._revision and not is_ours:
            return self._lose("another node has taken its name")
        if found.revision > self._revision:
            self._revision = found.revision
        if is_ours and (number := found.value.get("renewal")) in self._sent:
            return self._renewed(number)
        raise NoQuorum("an earlier renewal is neither stored nor refused yet")

    def _renewed(self, number: int) -> None:
        """Put the deadline off: this write is stored."""
        deadline = self._deadline_from(self._sent[number])
        self._sent = {each: sent for each, sent in self._sent.items() if each > number}
        self._problem = ""
        if self.id is not None and deadline > self.deadline:
            self.leases.extend(deadline)

    def _numbered(self, sent: float) -> dict[str, Any]:
        self._number += 1
        self._sent[self._number] = sent
        return {**self._value, "renewal": self._number}

    def _deadline_from(self, sent: float) -> float:
        return sent + self._ttl * (1 - MARGIN)

    def _is_ours(self, found: Entry) -> bool:
        return found.value.get("instance") == self._link.instance

    # -- the end

    def _late(self) -> None:
        self._lose(f"it was not renewed in time{self._problem and f' ({self._problem})'}")

    def _lose(self, why: str) -> None:
        if self.id is None:
            return
        logger.error("node '%s' lost its session: %s; its exclusive mods end, and it joins again", self.node, why)
        self.id = None
        self._lost.set()  # first: whatever a listener raises, this node joins again
        self.leases.end()
        told_each(self.on_lost, why)
        self._members.tell()

    async def _delete(self, bucket: Bucket) -> None:
        try:
            await bucket.delete(self._key, self._revision)
        except Taken:  # by a renewal of ours whose answer was not waited for
            found = await bucket.get(self._key)
            if found is not None and self._is_ours(found):
                await bucket.delete(self._key, found.revision)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return str(error) or "the servers do not answer"
    return str(error) if isinstance(error, (ModvisorError, OSError)) else repr(error)


class _Other:
    """Tells a node that lives from one that was killed: it renews its session."""

    def __init__(self) -> None:
        self._seen: dict[int, None] = {}

    def is_alive(self, found: Entry) -> bool:
        self._seen[found.revision] = None
        return len(self._seen) > 2  # one renewal may have been under way when it was killed
