"""Writes of one mod, which JetStream takes only from the newest holder of the mod.

All that a mod's holder keeps (accepted events, their answers, checkpoints, dead letters) is written in
atomic batches: JetStream stores all messages of a batch or none. The last message of each batch is
the mod's *fence*. It names the fence that it replaces, so that a batch goes through only while no
other node has raised the fence. A new holder raises it with its own fencing token, before it reads
what is there. From then on the servers refuse whatever an older holder sends.

One batch is under way at a time, and takes all that waits by then. The fence names its batch: after a
timeout the same batch is sent again, until the fence says whether the first one was stored. What was
sent by a connection that is gone may still be on its way, in a server that stands still: before such a
batch is given up, the fence is moved, so that it comes too late whenever it comes.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from contextlib import suppress
from typing import Any, NamedTuple

from nats.js.errors import APIError

from ....ipc.errors import Code, ModvisorError
from ..link.connection import Connection
from ..link.errors import ClusterError, LinkDown, NoQuorum, TooLarge
from ..link.failures import is_taken, of_jetstream
from ..link.jetstream import JetStream, Stored
from ..link.seal import HEAD_BYTES

logger = logging.getLogger("modvisor.cluster")

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_OF = "Nats-Expected-Last-Subject-Sequence-Subject"
TTL = "Nats-TTL"
GONE = {TTL: "1s"}
"""Headers of an empty message that takes the place of one which is no longer wanted."""

MOST_MESSAGES, MOST_BYTES = 500, 4 * 1024 * 1024
"""Of one batch. JetStream takes at most 1000 messages in a batch."""

LONGEST_PAUSE = 1.0

_BATCH, _NUMBER, _COMMIT = "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"


class Put(NamedTuple):
    """A message to be stored below the mod's subject. Empty data deletes what is stored there."""

    subject: str
    data: bytes
    headers: dict[str, str]


class Fence(NamedTuple):
    """The newest fence of a mod.

    Attributes:
        seq: its number in the stream; 0 if the mod has none.
        token: of the claim that it was raised with.
        term: how many times it was raised.
        batch: the batch that it was the end of.
    """

    seq: int = 0
    token: int = 0
    term: int = 0
    batch: str = ""


class Conflict(Exception):
    """A message of a batch names what is not so: its event was accepted or answered before."""


class Write:
    """Messages that are stored together, or not at all.

    Attributes:
        done: the number of the first message; `Conflict`; or why nothing is stored.
        is_lasting: it is tried again until it is stored.
        is_dropped: nobody waits for it any more; it need not be stored.
    """

    __slots__ = ("done", "is_conditional", "is_dropped", "is_lasting", "is_sent", "puts", "size")

    def __init__(self, puts: list[Put], *, is_lasting: bool) -> None:
        self.puts = puts
        self.size = sum(len(put.data) for put in puts)
        self.is_lasting = is_lasting
        self.is_dropped = self.is_sent = False
        self.is_conditional = any(EXPECTED in put.headers for put in puts)
        self.done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(self, outcome: int | BaseException) -> None:
        if not self.done.done():
            if isinstance(outcome, int):
                self.done.set_result(outcome)
            else:
                self.done.set_exception(outcome)
                self.done.exception()  # whoever waits for it gets it; nobody may


class Fenced:
    """Writes what a holder keeps of one mod.

    Args:
        root: the subject below which the mod's messages are.
        token: the fencing token of the claim.

    Attributes:
        fence: as it was raised or written last.
        lost: why nothing can be written any more.
        lock: held while a batch is under way.
        held: how many others must write first, see `release`.
    """

    def __init__(self, jetstream: JetStream, stream: str, root: str, mod_id: str, token: int) -> None:
        self.root = root
        self.mod_id = mod_id
        self.token = token
        self.fence = Fence()
        self.lost: ModvisorError | None = None
        self.lock = asyncio.Lock()
        self.held = 0
        self._jetstream = jetstream
        self._wire = jetstream.wire
        self._stream = stream
        self._subject = f"{root}.fence.e"
        self._waiting: deque[Write] = deque()
        self._under_way: list[Write] = []
        self._said = ""  # why the batch under way is not stored, as the log has it
        self._freed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- the fence

    async def raise_fence(self) -> int:
        """Shut out all older holders, and return how many terms the mod had before.

        Raises:
            ClusterError: not now.
            ModvisorError: mod_away: this node is the older holder.
        """
        while True:
            found = await self._read_fence()
            self._check(found)
            fence = Fence(0, self.token, found.term + 1, secrets.token_hex(8))
            try:
                seq = await self._jetstream.store(
                    self._subject, self._sealed(fence), {EXPECTED: str(found.seq)}, stream=self._stream, what=self._what
                )
            except APIError as error:
                if not is_taken(error):
                    raise of_jetstream(error, self._what) from None
                continue
            self.fence = fence._replace(seq=seq)
            return found.term

    @property
    def _what(self) -> str:
        return f"write what is kept of mod {self.mod_id}"

    async def _read_fence(self) -> Fence:
        found = await self._jetstream.read(self._stream, what=f"read the fence of mod {self.mod_id}",
                                           last_by_subj=self._subject)  # fmt: skip
        if found is None:
            return Fence()
        token, term, batch = self.opened(found)
        return Fence(found.seq, token, term, batch)

    def _check(self, found: Fence) -> None:
        is_ours = found.token == self.token and (not self.fence.term or found.term == self.fence.term)
        if found.token > self.token or (found.token == self.token and not is_ours):
            text = (
                f"mod {self.mod_id} runs on another node by now, which shut this one out (fencing token {found.token})"
            )
            self.lost = ModvisorError(f"{text}; this node had {self.token}", code=Code.MOD_AWAY)
            raise self.lost

    # -- sealing

    def sealed(self, subject: str, body: Any) -> bytes:
        return self._wire.seal.sealed(body, subject.encode())

    def opened(self, found: Stored) -> Any:
        """Return the body of a stored message. Raises `NotSealed`: no node of this network wrote it."""
        return self._wire.seal.opened(found.data, found.subject.encode())

    def drop(self, reason: str) -> None:
        """Count a message that no node of this network can have written."""
        self._wire.dropped[reason] += 1

    def _sealed(self, fence: Fence) -> bytes:
        return self.sealed(self._subject, [fence.token, fence.term, fence.batch])

    # -- writing

    def put(self, name: str, body: Any, headers: dict[str, str] | None = None) -> Put:
        """Return a message for `write`. A body of None deletes what is stored there."""
        subject = f"{self.root}.{name}"
        if body is None:
            return Put(subject, b"", GONE)
        return Put(subject, self.sealed(subject, body), headers or {})

    def write(self, *puts: Put, is_lasting: bool = False) -> Write:
        """Store messages soon, in the order of the calls. Await `done` of what is returned."""
        write = Write(list(puts), is_lasting=is_lasting)
        if self.lost is not None:
            write.end(self.lost)
            return write
        if (largest := max((len(put.data) for put in puts), default=0)) > self._wire.most_kept + HEAD_BYTES:
            write.end(self._too_large(largest))  # it would be tried for ever, and all others behind it
            return write
        self._waiting.append(write)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        return write

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge(
            f"could not {self._what}: a message of {size} bytes is larger than the NATS servers keep "
            f"({self._wire.most_kept}); raise their 'max_payload'"
        )

    async def flush(self) -> None:
        """Wait until all that is to be written by now is written, or cannot be. Others may write on and on meanwhile."""
        if left := [write.done for write in (*self._under_way, *self._waiting)]:
            await asyncio.wait(left)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        while self._waiting:
            self._waiting.popleft().end(self._ended())

    def _ended(self) -> NoQuorum:
        return NoQuorum(f"could not {self._what}: this node ends, or another one has the mod")

    async def _run(self) -> None:
        await asyncio.sleep(0)  # so that all that this step of the loop writes goes together
        while self._waiting:
            while self.held:
                await self._freed.wait()
            async with self.lock:
                await self._run_batch(self._take(self._waiting))

    async def _run_batch(self, writes: list[Write]) -> None:
        if not writes:
            return
        self._under_way = writes
        try:
            await self._write_batch(writes)
        except ModvisorError as error:
            self._fail(writes, error)
        except BaseException:
            self._fail(writes, self._ended())
            raise

    def release(self) -> None:
        """Go on with the writes that waited because of `held`."""
        self.held -= 1
        self._freed.set()
        self._freed = asyncio.Event()

    async def write_now(self, puts: list[Put]) -> int:
        """Store messages before all that waits, and return the number of the first. The caller holds `lock`.

        Raises:
            Conflict: a condition of a message does not hold. ModvisorError: mod_away.
        """
        write = Write(puts, is_lasting=True)
        await self._run_batch([write])
        return await write.done

    def waiting(self) -> list[Write]:
        """Return what waits to be stored."""
        return list(self._waiting)

    async def catch_up(self, writes: list[Write]) -> None:
        """Store those of these writes that still wait. The caller holds `lock`."""
        first = deque(write for write in writes if write in self._waiting)
        for write in first:
            self._waiting.remove(write)
        while first:
            await self._run_batch(self._take(first))

    def fence_put(self, seq: int) -> Put:
        """Return a message for a batch of another mod, which goes through only while this fence is the newest."""
        return Put(self._subject, self._sealed(self.fence), {EXPECTED: str(seq), EXPECTED_OF: self._subject})

    def _take(self, waiting: deque[Write]) -> list[Write]:
        taken: list[Write] = []
        named: set[str] = set()  # a condition is checked against what was stored before the batch
        count = size = 0
        while waiting:
            first = waiting[0]
            if taken and (count + len(first.puts) > MOST_MESSAGES or size + first.size > MOST_BYTES):
                break
            names = {put.subject.rpartition(".")[0] for put in first.puts}
            if first.is_conditional and names & named:
                break
            named |= names
            waiting.popleft()
            if first.is_dropped:
                first.end(NoQuorum(f"could not {self._what} in time"))
                continue
            first.is_sent = True
            taken.append(first)
            count, size = count + len(first.puts), size + first.size
        return taken

    def _fail(self, writes: list[Write], error: ModvisorError) -> None:
        for write in [*writes, *(self._waiting if self.lost is not None else ())]:
            write.end(error)
        if self.lost is not None:
            self._waiting.clear()

    async def _write_batch(self, writes: list[Write]) -> None:
        """Store a batch, however often that must be tried; give up what may be given up."""
        batch, pause = secrets.token_hex(8), 0.02
        unsure: set[Connection] = set()  # where a try may still be on its way
        while writes := writes if unsure else [write for write in writes if not write.done.done()]:
            on = self._wire.connection() if self._wire.is_connected else None
            try:
                seq = await self._send(writes, batch)
            except APIError as error:
                if (found := await self._outcome(batch, is_sure=unsure <= {on})) is not None:
                    if found.batch == batch:
                        return self._stored(writes, found.seq)
                    unsure.clear()
                    if is_taken(error):
                        writes = await self._without_conflicts(writes)
                        continue
                    self._refused(writes, of_jetstream(error, self._what))
            except ClusterError as error:
                if on is not None and (not isinstance(error, LinkDown) or error.was_sent):
                    unsure.add(on)
                if not unsure and isinstance(error, LinkDown):
                    self._refused(writes, error)
                logger.debug("%s; trying again", error)
            else:
                return self._stored(writes, seq)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _refused(self, writes: list[Write], error: ModvisorError) -> None:
        """Nothing was stored: whoever waits learns why; what must be stored is tried again."""
        for write in [*writes, *self._waiting]:
            if not write.is_lasting:
                write.is_dropped = True
                write.end(error)
        if any(write.is_lasting for write in writes) and str(error) != self._said:
            logger.warning("%s; it is tried again", error)
            self._said = str(error)

    async def _send(self, writes: list[Write], batch: str) -> int:
        attempt = secrets.token_hex(8)  # the servers take the id of a batch once
        puts = [put for write in writes for put in write.puts]
        for number, put in enumerate(puts, 1):
            self._wire.send(put.subject, put.data, "", {**put.headers, _BATCH: attempt, _NUMBER: str(number)})
        fence = self.fence._replace(batch=batch)
        headers = {_BATCH: attempt, _NUMBER: str(len(puts) + 1), _COMMIT: "1", EXPECTED: str(self.fence.seq)}
        return await self._jetstream.store(
            self._subject, self._sealed(fence), headers, stream=self._stream, what=self._what
        )

    def _stored(self, writes: list[Write], seq: int) -> None:
        self.fence, self._said = self.fence._replace(seq=seq), ""
        number = seq - sum(len(write.puts) for write in writes)
        for write in writes:
            write.end(number)
            number += len(write.puts)

    async def _outcome(self, batch: str, *, is_sure: bool) -> Fence | None:
        """Return the fence after a try of a batch was refused; None: what became of the batch is not known yet.

        Args:
            is_sure: all tries were sent by the present connection. The servers handle what comes by one
                connection in order, so a try before the refused one is stored by now, or never will be.

        Raises:
            ModvisorError: mod_away: another node has raised the fence.
        """
        try:
            found = await self._read_fence()
            self._check(found)
            if found.batch != batch:
                if found.seq == self.fence.seq and not is_sure:
                    await self._move_fence()
                    return self.fence
                self.fence = self.fence._replace(seq=found.seq)  # what moved it was given up, and stored all the same
        except (ClusterError, APIError) as error:
            logger.debug("%s; trying again", error)
            return None
        return found

    async def _move_fence(self) -> None:
        """Store the fence anew: what names the one before comes too late from now on. Raises ClusterError, APIError."""
        fence = self.fence._replace(batch=secrets.token_hex(8))
        headers = {EXPECTED: str(self.fence.seq)}
        data = self._sealed(fence)
        seq = await self._jetstream.store(self._subject, data, headers, stream=self._stream, what=self._what)
        self.fence = fence._replace(seq=seq)

    async def _without_conflicts(self, writes: list[Write]) -> list[Write]:
        """Return the writes without those whose conditions do not hold."""
        left: list[Write] = []
        for write in writes:
            try:
                is_refused = write.is_conditional and await self._is_known(write)
            except ClusterError as error:  # it stays in the batch, and is looked at when that is refused again
                logger.debug("%s; trying again", error)
                is_refused = False
            if is_refused:
                write.end(Conflict())
            else:
                left.append(write)
        if len(left) == len(writes):  # it was the fence, which a try of before was still under way with
            await asyncio.sleep(0.02)
        return left

    async def _is_known(self, write: Write) -> bool:
        for put in write.puts:
            if EXPECTED in put.headers:
                found = await self.newest(put.headers[EXPECTED_OF])
                if int(put.headers[EXPECTED]) != (0 if found is None else found.seq):
                    return True
        return False

    async def newest(self, subject: str) -> Stored | None:
        """Return the newest message on a subject, or None. One without data says that it was taken away."""
        what = f"read what is kept of mod {self.mod_id}"
        return await self._jetstream.read(self._stream, what=what, last_by_subj=subject)
