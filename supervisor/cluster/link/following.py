"""Reads a stream from its servers as it grows: in order, each message once, over lost connections and dead servers.

JetStream's ordered consumer: the server numbers what it sends, and says at least every
`heartbeat` how far it is. A number that is missing, a heartbeat that does not come, or a new
connection: the reader makes another consumer, which goes on after the last message that came.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import time
from contextlib import suppress
from typing import Any, Protocol

from nats.aio.msg import Msg

from .connection import Connection, ended
from .errors import ClusterError, Gone, LinkDown, NoQuorum
from .jetstream import PATIENCE, JetStream
from .replies import STATUS

logger = logging.getLogger("modvisor.cluster")

HEARTBEAT = 0.5
MISSED = 3
"""Heartbeats that may stay away before the consumer counts as dead: its server may be."""

LONGEST_PAUSE = 0.5
INACTIVE = 30.0
"""Seconds after which a server forgets a consumer that nobody reads."""

_NANO = 1_000_000_000
_numbers = itertools.count()


class Reader(Protocol):
    """What is told of a stream."""

    def begun(self, is_fresh: bool) -> None:
        """A consumer begins: at the start of what there is (fresh), or after what came last."""
        ...

    def received(self, message: Msg, seq: int) -> None: ...

    def complete(self) -> None:
        """All that there was when the consumer began has come."""
        ...


class Following:
    """Follows the subjects of one stream.

    Args:
        first: how a fresh consumer begins, as JetStream's `deliver_policy`: "last_per_subject" or "all".
        memory: for how many seconds a consumer may go on where the last one ended. After a longer
            absence it begins afresh, since what was deleted meanwhile may have left no trace.

    Attributes:
        problem: why it does not follow now, or empty.
    """

    def __init__(
        self, jetstream: JetStream, stream: str, subject: str, reader: Reader, *, first: str, memory: float
    ) -> None:
        self.problem = ""
        self._jetstream = jetstream
        self._wire = jetstream.wire
        self._stream = stream
        self._subject = subject
        self._reader = reader
        self._first = first
        self._memory = memory
        self._seq = 0
        self._created = ""
        self._heard = 0.0
        self._consumer = 0
        self._awaited: int | None = None
        self._inbox = ""
        self._on: tuple[Connection, Any] | None = None
        self._broken = asyncio.Event()
        self._came = 0  # messages, of all consumers
        self._over = asyncio.Event()  # it has caught up once, or the stream is gone
        self._failure: ClusterError | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow. Raises ClusterError if the first consumer cannot be made."""
        try:
            await self._begin()
        except BaseException:
            await self._leave()  # a consumer whose making had no answer in time may be made all the same
            raise
        self._wire.listeners.append(self._link_changed)
        self._task = asyncio.get_running_loop().create_task(self._keep())

    async def caught_up(self, *, is_patient: bool = False) -> None:
        """Wait until all has come that there was at the start.

        Args:
            is_patient: wait for servers that are away, however long that takes.

        Raises:
            Gone: somebody deleted the stream meanwhile.
            ClusterError: nothing came for `PATIENCE` times `cluster.timeout`.
        """
        patience = PATIENCE * self._wire.config.timeout
        while not self._over.is_set():
            came = self._came
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), patience)
            if not self._over.is_set() and self._came == came and not is_patient:
                raise self._failure or NoQuorum(
                    f"could not read {self._stream}: the NATS servers sent nothing of it for {patience:g} s"
                )
        if isinstance(self._failure, Gone):
            raise self._failure

    async def close(self) -> None:
        if self._task is not None:
            self._wire.listeners.remove(self._link_changed)
            await ended(self._task)
        await self._leave()

    def _link_changed(self, is_connected: bool) -> None:
        self._broken.set()

    async def _keep(self) -> None:
        pause = 0.0
        while True:
            await self._until_broken()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            self._broken.clear()
            try:
                await self._begin()
            except ClusterError as error:
                self._failed(error)
                self._broken.set()
                pause = min(max(2 * pause, 0.05), LONGEST_PAUSE)
            else:
                self.problem, self._failure, pause = "", None, 0.0

    def _failed(self, error: ClusterError) -> None:
        if not isinstance(error, LinkDown) and str(error) != self.problem:
            logger.warning("cannot follow %s: %s", self._stream, error)
        self.problem, self._failure = str(error), error
        if isinstance(error, Gone):
            self._over.set()  # whoever still waits for all of it waits for nothing

    async def _until_broken(self) -> None:
        """Wait until a message is missing, or the server has been silent for too long."""
        while not self._broken.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._broken.wait(), HEARTBEAT)
            if _now() - self._heard > MISSED * HEARTBEAT:
                return

    async def _begin(self) -> None:
        await self._leave()
        connection = self._wire.connection()
        is_fresh = not await self._can_go_on()
        self._inbox = f"{self._wire.subject('in', self._wire.instance)}.f{next(_numbers)}"
        self._consumer, self._awaited = 0, None
        if is_fresh:
            self._seq = 0  # if nothing comes of it, the next one does not go on where the last but one ended
        self._reader.begun(is_fresh)
        self._on = connection, await connection.subscribe(self._inbox, self._received)
        await self._create(is_fresh)

    async def _can_go_on(self) -> bool:
        what = f"follow the stream {self._stream}"
        info = await self._jetstream.request(f"STREAM.INFO.{self._stream}", what=what)
        known, self._created = self._created, info["created"]
        is_same = known == self._created and info["state"]["last_seq"] >= self._seq > 0
        was_away = _now() - self._heard
        return is_same and was_away < self._memory

    async def _create(self, is_fresh: bool) -> None:
        name = self._inbox.rsplit(".", 1)[1] + self._wire.instance
        start = {"deliver_policy": self._first}
        if not is_fresh:
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._seq + 1}
        config = {
            "name": name,
            "deliver_subject": self._inbox,
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "flow_control": True,
            "idle_heartbeat": int(HEARTBEAT * _NANO),
            "inactive_threshold": int(INACTIVE * _NANO),
            "filter_subject": self._subject,
            **start,
        }
        made = await self._jetstream.request(
            f"CONSUMER.CREATE.{self._stream}.{name}.{self._subject}",
            {"stream_name": self._stream, "config": config, "action": "create"},
            what=f"follow the stream {self._stream}",
        )
        self._heard = _now()
        self._awaited = made["num_pending"] + made["delivered"]["consumer_seq"]
        self._check_caught_up()

    async def _leave(self) -> None:
        on, self._on = self._on, None
        if on is not None:
            await on[0].unsubscribe(on[1])

    def _received(self, message: Msg) -> None:
        if message.subject == self._inbox and message.headers is not None and message.headers.get(STATUS) == "100":
            return self._heartbeat(message)
        seq, number, _ = _numbers_of(message)
        if self._broken.is_set():
            return
        if number != self._consumer + 1:
            return self._broken.set()
        self._heard = _now()
        self._consumer, self._seq = number, seq
        self._came += 1
        self._reader.received(message, seq)
        self._check_caught_up()

    def _heartbeat(self, message: Msg) -> None:
        headers = message.headers or {}
        asked = message.reply or headers.get("Nats-Consumer-Stalled", "")
        if asked:  # flow control: we have handled all before it
            with suppress(LinkDown):
                self._wire.send(asked, b"")
        last = headers.get("Nats-Last-Consumer")
        if last is not None and int(last) != self._consumer:
            return self._broken.set()
        self._heard = _now()
        if not asked and last is not None and self._awaited is not None:
            self._awaited = 0  # the server has nothing more to send: what is missing was removed before its turn
            self._check_caught_up()

    def _check_caught_up(self) -> None:
        if self._awaited is not None and self._consumer >= self._awaited:
            self._awaited = None
            self._reader.complete()
            self._failure = None
            self._over.set()


def stored_at(message: Msg) -> int:
    """Return when the servers stored a message of a stream, in nanoseconds of their clock."""
    return _numbers_of(message)[2]


def _numbers_of(message: Msg) -> tuple[int, int, int]:
    """Return the number of a message in its stream, its number for this consumer, and when it was stored."""
    fields = message.reply.split(".")
    at = 5 if len(fields) == 9 else 7  # with a domain there are two more before
    return int(fields[at]), int(fields[at + 1]), int(fields[at + 2])


def _now() -> float:
    """Return the time, which goes on while this machine is suspended, as it does on the servers."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


async def read_once(
    jetstream: JetStream, stream: str, subject: str, reader: Reader, *, first: str, memory: float = 0.0
) -> None:
    """Have a reader told what a stream holds now, and follow it no further. Raises ClusterError."""
    following = Following(jetstream, stream, subject, reader, first=first, memory=memory)
    await following.start()
    try:
        await following.caught_up()
    finally:
        await following.close()
