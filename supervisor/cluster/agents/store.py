"""Keeps agents, channels and invites in a bucket that every node mirrors.

A change is made in this node's registry at once, and written then: each key with the revision that
this node knows. If another node was faster, the change is taken back here and refused with
`conflict`; the registry then learns from the bucket what holds. Where both changes can stand (two
agents join one open channel, two uses of an invite), both do.

What a change writes is written key by key, the ones that can be refused first. A node that dies in
the middle leaves the first of them: an agent without one of its memberships, or an invite that
nobody has used up.

The watch of the bucket tells this node its own changes, too. They are passed over: a key that is on
its way has its newest value here, and a revision that is known brings nothing new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

from ....ipc.errors import Code, ModvisorError
from ...agents import Refusal
from ..link.buckets import Bucket, Watch
from ..link.errors import Taken
from ..link.names import text_of
from . import keys as agent_keys
from .keys import Write

logger = logging.getLogger("modvisor.cluster")

T = TypeVar("T")

MAX_WAITING = 20_000
"""Changes that may wait for the servers. No key of the network file: more of them wait past deadlines."""

AT_ONCE = 64  # writes of one change that are on their way together

_FIRST = (agent_keys.INVITE, agent_keys.CHANNEL, agent_keys.AGENT)  # in which order keys are written


class Mirror(Protocol):
    """What learns the changes of other nodes; see `MirroredAgents.mirror`."""

    def __call__(self, kind: str, data: dict[str, Any]) -> None: ...


class _Known:
    """What is known of one key.

    Attributes:
        revision: the newest that was written here or seen; 0: none.
        is_there: whether the key has a value, as far as this node knows.
        pending: changes of this node that touch the key and are on their way.
        seen: what the watch told meanwhile, with its revision.
        tail: done when the newest of these changes is.
    """

    __slots__ = ("is_there", "pending", "revision", "seen", "tail")

    def __init__(self) -> None:
        self.revision = 0
        self.is_there = False
        self.pending = 0
        self.seen: tuple[Any, int] | None = None
        self.tail: asyncio.Future[None] | None = None


class BucketStore:
    """An `AgentStore` over a bucket.

    Attributes:
        mirror: set before `open`.
    """

    mirror: Mirror

    def __init__(self) -> None:
        self._bucket: Bucket | None = None
        self._watch: Watch | None = None
        self._known: dict[str, _Known] = {}
        self._gathered: list[Write] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._awaited: dict[str, asyncio.Event] = {}  # keys whose news somebody waits for

    async def open(self, bucket: Bucket) -> None:
        """Read all that the bucket has, and follow its changes."""
        self._bucket = bucket
        self._watch = await bucket.mirror("", self._told)

    async def close(self) -> None:
        """Wait for the changes that are on their way, and follow the bucket no longer."""
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._watch is not None:
            await self._watch.close()
        self._bucket = self._watch = None

    async def abandon(self) -> None:
        """Give up the changes that are on their way, and follow the bucket no longer."""
        for task in list(self._tasks):
            task.cancel()
        await self.close()

    @property
    def waiting(self) -> int:
        """How many changes are on their way."""
        return len(self._tasks)

    # -- own changes

    def record(self, kind: str, data: dict[str, Any]) -> None:
        writes = agent_keys.write_of(kind, data)
        if self._gathered is not None:
            self._gathered += writes
            return
        if self._bucket is None:
            logger.error("a change (%s) came when the cluster's bucket was not open; it is lost", kind)
            return
        self._begin(writes).add_done_callback(lambda saved: _log(kind, saved))

    def together(self, what: str, change: Callable[[], T]) -> tuple[T, asyncio.Future[None]]:
        if self._bucket is None:
            raise ModvisorError("this node is not in its cluster yet", code=Code.NOT_RUNNING)
        if len(self._tasks) > MAX_WAITING:
            text = f"{len(self._tasks)} changes wait for the cluster's servers; try again later"
            raise ModvisorError(text, code=Code.STORAGE_FULL)
        gathered = self._gathered = []
        try:
            result = change()
        finally:
            self._gathered = None
        return result, self._begin(gathered)

    async def learned(self, kind: str, data: dict[str, Any]) -> None:
        """Wait until a change that was refused has ended, and this node knows what holds instead."""
        known = [self._known.get(write.key) for write in agent_keys.write_of(kind, data)]
        tails = [each.tail for each in known if each is not None and each.tail is not None]
        if tails:
            await asyncio.wait(tails)

    def revision_of(self, agent_id: str) -> int:
        """Return the revision of what this node knows of an agent; 0: it knows none."""
        known = self._known.get(agent_keys.agent_key(agent_id))
        return 0 if known is None else known.revision

    async def reached(self, agent_id: str, revision: int) -> None:
        """Wait until this node knows what a revision made of an agent, or a later one."""
        key = agent_keys.agent_key(agent_id)
        while (known := self._known.get(key)) is not None and (known.pending or known.revision < revision):
            await self._awaited.setdefault(key, asyncio.Event()).wait()

    def _tell(self, key: str) -> None:
        if self._awaited and (awaited := self._awaited.pop(key, None)) is not None:
            awaited.set()

    def _begin(self, writes: list[Write]) -> asyncio.Future[None]:
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        merged = _merged(writes)
        if not merged:
            saved.set_result(None)
            return saved
        before: list[asyncio.Future[None]] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for key in merged:
            known = self._known.setdefault(key, _Known())
            known.pending += 1
            if known.tail is not None:
                before.append(known.tail)
            known.tail = done
        task = asyncio.create_task(self._write(list(merged.values()), before, saved, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return saved

    async def _write(
        self,
        writes: list[Write],
        before: list[asyncio.Future[None]],
        saved: asyncio.Future[None],
        done: asyncio.Future[None],
    ) -> None:
        """Write one change, behind those that touch the same keys."""
        error = await self._try(writes, before)
        if error is None:
            saved.set_result(None)
        else:
            saved.set_exception(error)
            saved.exception()  # whoever waits for it sees it; nobody has to
        await asyncio.sleep(0)  # the registry takes the change back
        for write in writes:
            self._settle(write.key)
        if error is not None:
            await self._learn(writes)
        for write in writes:
            if (known := self._known.get(write.key)) is not None and known.tail is done:
                known.tail = None
        done.set_result(None)

    async def _try(self, writes: list[Write], before: list[asyncio.Future[None]]) -> ModvisorError | None:
        if before:
            await asyncio.wait(before)
        written: list[Write] = []
        try:
            first = [write for write in writes if _rank(write) < len(_FIRST)]
            for write in sorted(first, key=_rank):
                if await self._put(write):
                    written.append(write)
            rest = [write for write in writes if _rank(write) == len(_FIRST)]
            for begin in range(0, len(rest), AT_ONCE):
                await asyncio.gather(*(self._put(write) for write in rest[begin : begin + AT_ONCE]))
        except Exception as error:  # noqa: BLE001 - whatever the servers say, the registry must take it back
            await self._take_back(written)
            return error if isinstance(error, ModvisorError) else _not_kept(error)
        return None

    async def _put(self, write: Write) -> bool:
        """Write one key. Return whether it can be taken back. Raises `Refusal` (conflict)."""
        known, bucket = self._known[write.key], self._bucket
        assert bucket is not None
        try:
            if write.is_joined:
                await self._touch(write.key, bucket)
            elif write.value is None:
                await self._delete(write.key, known, bucket)
            elif known.is_there:
                self._kept(known, await bucket.update(write.key, write.value, known.revision))
            else:
                self._kept(known, await bucket.create(write.key, write.value))
                return True
        except Taken:
            return await self._taken(write, known, bucket)
        return write.is_spent

    async def _delete(self, key: str, known: _Known, bucket: Bucket) -> None:
        if not known.is_there:
            return
        is_checked = _rank_of(key) < len(_FIRST)
        await bucket.delete(key, known.revision if is_checked else None)
        known.is_there = False

    async def _touch(self, key: str, bucket: Bucket) -> None:
        """Write the key of a private channel anew, so that whoever changes it meanwhile is refused."""
        known = self._known[key]
        entry = await bucket.get(key)
        if entry is None or entry.revision != known.revision:
            raise Taken(key)
        self._kept(known, await bucket.update(key, entry.value, entry.revision))

    @staticmethod
    def _kept(known: _Known, revision: int) -> None:
        known.revision, known.is_there = max(known.revision, revision), True

    async def _taken(self, write: Write, known: _Known, bucket: Bucket) -> bool:
        """See what another node has made of a key. Raises `Refusal` unless both changes can stand."""
        entry = await bucket.get(write.key)
        kind = _rank_of(write.key)
        if write.is_spent and entry is not None:
            return await self._spend_another(write, entry.value, entry.revision, known, bucket)
        if kind == len(_FIRST):  # the same membership
            return False
        is_open = write.key.startswith(f"{agent_keys.CHANNEL}.") and entry is not None and not entry.value["private"]
        if is_open and entry is not None and (write.value is None or not write.value["private"]):
            self._kept(known, entry.revision)  # others are in it, too
            return False
        raise _conflict(write.key)

    async def _spend_another(self, write: Write, value: Any, revision: int, known: _Known, bucket: Bucket) -> bool:
        """Use an invite up once more, of which another node has just used one."""
        left = {**value, "uses": value["uses"] - 1}
        try:
            if left["uses"]:
                self._kept(known, await bucket.update(write.key, left, revision))
            else:
                await bucket.delete(write.key, revision)
                known.is_there = False
        except Taken:
            return await self._taken(write, known, bucket)
        known.seen = None
        self._mirrored(write.key, left if left["uses"] else None)
        return True

    async def _take_back(self, written: Iterable[Write]) -> None:
        """Undo what the first keys of a change got before a later one was refused."""
        for write in written:
            try:
                if write.is_spent:
                    await self._give_back(write)
                else:
                    await self._delete(write.key, self._known[write.key], self._open_bucket())
            except Exception as error:  # noqa: BLE001 - told, and left as it is
                logger.warning("what was written to %s could not be taken back: %s", write.key, error)

    async def _give_back(self, write: Write) -> None:
        bucket = self._open_bucket()
        entry = await bucket.get(write.key)
        if entry is not None:
            await bucket.update(write.key, {**entry.value, "uses": entry.value["uses"] + 1}, entry.revision)

    def _open_bucket(self) -> Bucket:
        if self._bucket is None:
            raise ModvisorError("this node has left its cluster", code=Code.NOT_RUNNING)
        return self._bucket

    def _settle(self, key: str) -> None:
        """Note the end of a change of a key, and apply what the watch told meanwhile if it is newer."""
        known = self._known[key]
        known.pending -= 1
        if known.pending:
            return
        seen, known.seen = known.seen, None
        # A key that went while the watch was away goes with the revision that was known of it.
        if seen is not None and (seen[1] > known.revision or (seen[0] is None and seen[1] == known.revision)):
            self._apply(key, *seen)
        self._tell(key)

    async def _learn(self, writes: Iterable[Write]) -> None:
        """Read what the bucket has, behind a change that it refused."""
        for write in writes:
            known = self._known.get(write.key)
            if known is None or known.pending:
                continue
            try:
                entry = await self._open_bucket().get(write.key)
            except Exception as error:  # noqa: BLE001 - the watch tells it when the servers are back
                logger.info("the bucket could not be asked for %s: %s", write.key, error)
                return
            if known.pending or known is not self._known.get(write.key):
                continue
            if entry is None and not known.is_there:
                self._mirrored(write.key, None)
            elif entry is not None and entry.revision >= known.revision:
                self._apply(write.key, entry.value, entry.revision)

    # -- what other nodes have changed

    def _told(self, key: str, value: Any, revision: int) -> None:
        known = self._known.get(key)
        if known is not None and known.pending:
            if known.seen is None or revision >= known.seen[1]:
                known.seen = value, revision
        elif known is None or revision > known.revision or (value is None and revision == known.revision):
            self._apply(key, value, revision)

    def _apply(self, key: str, value: Any, revision: int) -> None:
        if value is None:
            self._known.pop(key, None)
        else:
            known = self._known.setdefault(key, _Known())
            known.revision, known.is_there = revision, True
        self._mirrored(key, value)
        self._tell(key)

    def _mirrored(self, key: str, value: Any) -> None:
        change = agent_keys.read(key, value)
        if change is not None:
            self.mirror(*change)


def _merged(writes: Iterable[Write]) -> dict[str, Write]:
    """Return the last write of each key. A channel that is made in this change is not joined, too."""
    merged: dict[str, Write] = {}
    for write in writes:
        if not (write.is_joined and write.key in merged):
            merged[write.key] = write
    return merged


def _rank_of(key: str) -> int:
    kind = key.partition(".")[0]
    return _FIRST.index(kind) if kind in _FIRST else len(_FIRST)


def _rank(write: Write) -> int:
    return _rank_of(write.key)


def _conflict(key: str) -> Refusal:
    kind, *names = key.split(".")
    text = f"another node changed {kind} {text_of(names[0])!r} in the same moment; look at it, and try again"
    return Refusal(text, code=Code.CONFLICT)


def _not_kept(error: Exception) -> ModvisorError:
    text = f"the cluster's servers did not keep the change ({error or type(error).__name__}); try again later"
    return ModvisorError(text, code=Code.STORAGE_FULL)


def _log(kind: str, saved: asyncio.Future[None]) -> None:
    if not saved.cancelled() and (error := saved.exception()) is not None:
        logger.warning("a change of agents (%s) could not be kept: %s", kind, error)
