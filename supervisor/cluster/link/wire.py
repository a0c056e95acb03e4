"""A node's way to the servers and the other nodes: questions and answers, sealed, over a connection that comes back.

A message to a node is sealed (`seal.py`); one with a wrong seal is dropped and counted. While there
is no connection, `ask` fails at once, and what was asked before fails too: nobody knows whether it
was handled. Answers that this node could not give are kept, and given when it is connected again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext

from ...config import ClusterConfig
from .bundles import ROOM, Bundles, answers_to, bundle_in
from .connection import Connection, ended, not_permitted
from .dialing import Dialer, Pause
from .errors import ClusterError, LinkDown, NotPermitted, Refused, TooLarge
from .names import Names
from .replies import Replies
from .seal import HEAD_BYTES, NotSealed, Seal

logger = logging.getLogger("modvisor.cluster")

MOST_TOLD = 1000  # refusals of the servers that the log does not say twice
PERMITTED_AGAIN = 10.0
"""Seconds until what the servers did not permit is tried again: somebody has to change their file."""

MOST_KEPT = 4 * 1024 * 1024
"""Bytes of answers that are kept for the next connection. Who asked gave up long before they are so many."""


class Reply:
    """Answers one message. Called once; a message that wants no answer gets none.

    Attributes:
        subject: on which the message came.
        is_wanted: the sender waits for an answer.
    """

    __slots__ = ("_number", "_to", "_wire", "subject")

    def __init__(self, wire: Wire, subject: str, to: str, number: int = 0) -> None:
        self._wire = wire
        self._to = to
        self._number = number
        self.subject = subject

    @property
    def is_wanted(self) -> bool:
        return bool(self._to)

    def __call__(self, body: Any) -> None:
        if self._number:
            self._wire.bundles.answer(self._to, self._number, body, self._wire.most_answer)
        elif self._to:
            self._wire.answer(self._to, body)


ROOM_OF_KEPT = 2048
"""Bytes of a message in a stream that its seal, its headers and what stands around a value may take."""

Handler = Callable[[Any, Reply], None]


class Served:
    """A subject that this node serves."""

    def __init__(self, wire: Wire, subject: str, handler: Handler, queue: str, in_bundles: bool) -> None:
        self.subject = subject
        self.queue = queue
        self.subscription: Subscription | None = None
        self.received = self._received_bundle if in_bundles else self._received
        self._wire = wire
        self._handler = handler

    def _received(self, message: Msg) -> None:
        body = self._wire.opened(message)
        if body is not _DROPPED:
            self._handler(body, Reply(self._wire, message.subject, message.reply))

    def _received_bundle(self, message: Msg) -> None:
        wire, subject, to = self._wire, message.subject, answers_to(message.reply)
        for number, body in wire.bundle_in(message):
            try:
                self._handler(body, Reply(wire, subject, to if number else "", number if to else 0))
            except Exception:  # the others of the bundle go on
                logger.exception("could not handle a message on %s", subject)

    async def close(self) -> None:
        """Serve no more. What came before is handled."""
        await self._wire.unserve(self)


_DROPPED = object()


class Wire:
    """The connection of one node, without what the servers keep.

    Attributes:
        bundles: asks other nodes with few messages; see `bundles.py`.
        most_answer: the largest packed answer, in bytes, that one message can carry.
        most_kept: the largest packed value, in bytes, that one message in a stream can carry.
        instance: random, new with each link, so that two runs of one node are told apart.
        dropped: how many messages were dropped, by reason; see `seal.py`.
        listeners: are told whenever the connection is lost (False) or back (True).
        problem: why there is no connection now, or what failed last; empty when all is well.
    """

    def __init__(self, config: ClusterConfig, network_id: str, node: str) -> None:
        self.config = config
        self.names = Names(network_id)
        self.node = node
        self.instance = secrets.token_hex(8)
        self.dropped: Counter[str] = Counter()
        self.listeners: list[Callable[[bool], None]] = []
        self.problem = ""
        self.seal = Seal(config.secret.resolve() if config.secret is not None else "", network_id)
        self.subject = self.names.subject
        self._replies = Replies(f"{self.subject('re', self.instance)}.", self.seal, self._drop)
        self._dialer = Dialer(config, self.subject("in", self.instance), self._lost)
        self._connection: Connection | None = None
        self.bundles = Bundles(self._replies.prefix, self.seal, self._send_now, self._keep_answer, self._drop)
        self._replies.others = self.bundles.received
        self.most_answer = self.most_kept = 0
        self._served: list[Served] = []
        self._kept: deque[tuple[str, bytes]] = deque()
        self._kept_bytes = 0
        self._keeper: asyncio.Task[None] | None = None
        self._down = asyncio.Event()
        self._not_permitted: set[str] = set()  # what the log has said already

    # -- its life

    async def open(self) -> None:
        """Connect. With `cluster.wait` this lasts until the servers answer.

        Raises:
            ClusterError: no server takes this node, or the network there is not ours.
        """
        pause = Pause()
        while True:
            try:
                await self._open()
            except ClusterError as error:
                if not self.config.wait or isinstance(error, Refused):
                    raise
                pause.tell(error)
                await pause.wait()
            else:
                break
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def _open(self) -> None:
        connection = await self._dialer.once()
        try:
            await self._use(connection)
            await self.check()
        except BaseException:
            self._connection = None
            connection.abort()
            raise

    async def close(self) -> None:
        """Serve no more, send what waits, and end the connection."""
        if self._keeper is not None:
            await ended(self._keeper)
        self._served.clear()
        await self._drop_connection()
        self._replies.lost("this node leaves")
        self.bundles.lost("this node leaves")

    async def check(self) -> None:
        """Make sure that the network there is this one. Raises ClusterError."""

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    @property
    def max_body(self) -> int:
        """The largest packed body, in bytes, that one message can carry. Raises LinkDown."""
        return self.connection().max_payload - HEAD_BYTES

    @property
    def server(self) -> str:
        """The URL of the server that this node is connected to, or was last."""
        return self._dialer.url

    async def _keep(self) -> None:
        while True:
            await self._down.wait()
            await self._come_back()
            self._give_kept()
            self._tell(True)

    async def _come_back(self) -> None:
        pause = Pause()
        while True:
            connection = await self._dialer.forever()
            try:
                return await self._use(connection)
            except BaseException as error:
                connection.abort()
                if not isinstance(error, ClusterError):
                    raise
                self.problem = str(error)
                pause.tell(error)
                await pause.wait()

    async def _use(self, connection: Connection) -> None:
        """Begin with a new connection: it knows nothing of what the last one served."""
        connection.on_refused = self._refused
        await connection.subscribe(self._replies.prefix + "*", self._replies.received)
        await self._serve_on(connection)
        connection.check_open()
        self._connection = connection
        self._down.clear()  # it may have been lost before `open` ended
        self.most_answer = connection.max_payload - ROOM
        self.most_kept = connection.max_payload - ROOM_OF_KEPT
        self.problem = ""

    async def _serve_on(self, connection: Connection) -> None:
        """Subscribe to all that is served. Others begin and end to serve meanwhile."""
        there: dict[Served, Subscription] = {}
        while (wanted := set(self._served)) != there.keys():
            for served in there.keys() - wanted:
                await connection.unsubscribe(there.pop(served))
            for served in wanted - there.keys():
                there[served] = await connection.subscribe(served.subject, served.received, served.queue)
        for served, subscription in there.items():
            served.subscription = subscription

    def _lost(self, reason: str) -> None:
        if self._connection is None:  # while it was made ready; who makes it knows
            return
        self._connection = None
        self.problem = f"the connection to the servers was lost: {reason}"
        logger.warning("%s", self.problem)
        self._replies.lost(reason)
        self.bundles.lost(reason)
        self._down.set()
        self._tell(False)

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _tell(self, is_connected: bool) -> None:
        for listener in list(self.listeners):
            listener(is_connected)

    def _refused(self, said: str) -> None:
        error = not_permitted(said)
        self.problem = str(error)
        if said not in self._not_permitted:  # it is tried again and again
            self._not_permitted = {*self._not_permitted, said} if len(self._not_permitted) < MOST_TOLD else {said}
            logger.error("%s", error)
        self._replies.not_permitted(said, error)
        self.bundles.not_permitted(said, error)

    # -- between nodes

    async def ask(self, subject: str, body: Any, *, timeout: float) -> Any:
        """Return what the node that serves the subject answers. Sent before the first time that this waits.

        Args:
            body: of msgpack types, as the answer is.

        Raises:
            Nobody: no node serves the subject.
            TimeoutError: no answer came in time.
            LinkDown: there is no connection; `was_sent` says whether the message may have left.
            TooLarge: the servers take no message of this size.
            NotPermitted: the servers let this node not use the subject.
        """
        number, answer = self._replies.begin(subject, timeout)
        try:
            self.send(subject, self.seal.sealed(body, subject.encode()), self._replies.prefix + number)
            return await answer
        finally:
            self._replies.end(number)

    async def call(
        self,
        subject: str,
        data: bytes,
        headers: dict[str, str] | None = None,
        timeout: float | None = None,
        again: float | None = None,
    ) -> Msg:
        """Return what the servers themselves answer, unsealed. For JetStream. Raises as `ask`.

        Args:
            again: seconds after which what has no answer is sent once more, and so on. A server that has
                no leader drops a request without a word; this one reaches the leader that comes next.
        """
        number, answer = self._replies.begin(subject, timeout or self.config.timeout, is_raw=True)
        try:
            while True:
                self.send(subject, data, self._replies.prefix + number, headers)
                if again is None or (await asyncio.wait([answer], timeout=again))[0]:
                    return await answer
        finally:
            self._replies.end(number)

    def tell(self, subject: str, body: Any) -> None:
        """Send a message that nobody answers. Lost without a word when there is no connection."""
        with suppress(LinkDown):
            self.send(subject, self.seal.sealed(body, subject.encode()))

    async def serve(
        self, subject: str, handler: Handler, *, queue: str | None = None, in_bundles: bool = False
    ) -> Served:
        """Have each message on a subject handed to `handler`, in order, in the loop.

        Without a connection it is served as soon as there is one again.

        Args:
            subject: may end in `.*` or `.>`.
            queue: of all who serve the subject with one queue, one gets a message.
            in_bundles: what comes was sent by `bundles`, and is handed over packed.

        Raises:
            NotPermitted: the servers let this node not use the subject.
        """
        served = Served(self, subject, handler, queue or "", in_bundles)
        self._served.append(served)
        if (connection := self._connection) is not None:
            try:
                served.subscription = await connection.subscribe(subject, served.received, served.queue)
            except LinkDown as error:
                connection.lose(str(error))  # the server may have heard of it, or may never
            except BaseException:
                self._served.remove(served)  # no later connection is refused for it
                raise
            if f'"{subject.lower()}"' in self.problem:  # it was not permitted before
                self.problem = ""
        return served

    async def serve_at_last(self, subject: str, handler: Handler, what: str) -> Served:
        """Serve as `serve` does, and wait until the servers permit it: the node goes on without.

        Args:
            what: is missing meanwhile, as the log says it.
        """
        is_told = False
        while True:
            try:
                return await self.serve(subject, handler)
            except NotPermitted as error:
                if not is_told:
                    logger.error("%s: %s; it is tried again every %g s", what, error, PERMITTED_AGAIN)
                is_told = True
            await asyncio.sleep(PERMITTED_AGAIN)

    async def unserve(self, served: Served) -> None:
        if served in self._served:
            self._served.remove(served)
            if self._connection is not None and served.subscription is not None:
                await self._connection.drain(served.subscription)

    def opened(self, message: Msg) -> Any:
        try:
            return self.seal.opened(message.data, message.subject.encode())
        except NotSealed as error:
            self._drop(str(error))
            return _DROPPED

    def bundle_in(self, message: Msg) -> list[tuple[int, msgspec.Raw]]:
        """Return what came in a bundle; nothing if the message is dropped."""
        try:
            return bundle_in(self.seal, message)
        except NotSealed as error:
            self._drop(str(error))
            return []

    def answer(self, to: str, body: Any) -> None:
        data = self.seal.sealed(body, to.encode())
        try:
            self.send(to, data)
        except LinkDown:
            self._keep_answer(to, data)

    def send(self, subject: str, data: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """Send bytes as they are. Raises LinkDown, TooLarge."""
        self.connection().publish(subject, data, reply, headers)

    def _send_now(self, subject: str, data: bytes, reply: str) -> None:
        self.connection().publish_now(subject, data, reply)

    def connection(self) -> Connection:
        """Return the connection. Raises LinkDown."""
        if self._connection is None:
            raise LinkDown(self.problem or "this node is not connected to the servers")
        return self._connection

    def _drop(self, reason: str) -> None:
        self.dropped[reason] += 1

    def _keep_answer(self, to: str, data: bytes) -> None:
        self._kept.append((to, data))
        self._kept_bytes += len(data)
        while self._kept_bytes > MOST_KEPT:
            self._kept_bytes -= len(self._kept.popleft()[1])

    def _give_kept(self) -> None:
        while self._kept:
            to, data = self._kept.popleft()
            self._kept_bytes -= len(data)
            with suppress(LinkDown, TooLarge):  # the next server may take less
                self.send(to, data)

    @property
    def js(self) -> JetStreamContext:
        """nats-py's JetStream context of the present connection. Raises LinkDown."""
        return self.connection().jetstream(self.config.timeout)
