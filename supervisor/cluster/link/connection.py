"""One connection to one server, from its start to its loss. The one file that knows nats-py's client.

nats-py would connect again by itself. It is told not to: it would send again what waited, ends for
good at some errors of the server, and can wait for ever for a server that reads no more. `link.py`
makes another connection instead. So the loss of a connection is one event, and nothing outlives it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar, cast

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.js import JetStreamContext

from .errors import LinkDown, NotPermitted, TooLarge

T = TypeVar("T")

logger = logging.getLogger("modvisor.cluster")

MOST_WAITING = 64 * 1024 * 1024
"""Bytes that wait for a server that reads slowly; more are refused. A node's memory is not the buffer
of the network."""

DRAIN = 2.0
"""Seconds for a server to end a subscription."""

_PERMISSIONS = "permissions violation"


def not_permitted(said: str) -> NotPermitted:
    """Return what a server's "permissions violation" means."""
    return NotPermitted(
        f"the NATS servers do not permit it to this node: {said}; give its user the permissions of "
        "deploy/nats/permissions.conf, with the network's ID in it"
    )


class _Client(Client):
    """nats-py's client, without what stands in our way.

    - It would send credentials in the open to a server without TLS.
    - It writes a ping past what waits to be sent, so the answer does not say that the server has seen all of it.
    - Its reader ends when the answer to a ping comes that nobody waits for any more.
    - It writes what waits to a connection that was lost. uvloop refuses that, and then nobody is told of the loss.
    """

    must_be_tls = False

    def _connect_command(self) -> bytes:
        if self.must_be_tls and not self._server_info.get("tls_required"):
            raise errors.SecureConnWantedError
        return super()._connect_command()

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        await self._flush_pending(force_flush=True)
        await super()._send_ping(future)

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _process_op_err(self, e: Exception) -> None:
        self._pending, self._pending_data_size = [], 0
        await super()._process_op_err(e)


def _size_of(headers: dict[str, Any]) -> int:
    """Return about how many bytes headers take on the wire, which count as part of the message."""
    return 16 + sum(len(name) + len(value) + 4 for name, value in headers.items())


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended: nats-py swallows a cancellation now and then."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.05)


def _forgotten(task: asyncio.Future[Any]) -> None:
    """Take note of how a task has ended that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


class Receiver:
    """Hands each message of a subscription to a function, at once and in order.

    nats-py's own callbacks take a queue and a task for each subscription, which double the time of
    a request. A subscription made with a `future` hands its message over directly; this is a
    "future" that is never done.
    """

    def __init__(self, on: Callable[[Msg], None]) -> None:
        self._on = on

    def cancelled(self) -> bool:
        return False

    def set_result(self, message: Msg) -> None:
        try:
            self._on(message)
        except Exception:  # nats-py would end its reading with it
            logger.exception("could not handle a message on %s", message.subject)


class Connection:
    """A connection to a server.

    Attributes:
        refused: what the server did not permit, in small letters: its words and the subject.
        on_refused: is told the same, when it happens.
    """

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self._client = _Client()
        self._on_lost = on_lost
        self._last: Exception | None = None
        self._is_open = False
        self._draining: set[asyncio.Task[None]] = set()
        self._beat: asyncio.Task[None] | None = None
        self._over = asyncio.Event()
        self.refused: list[str] = []
        self.on_refused: Callable[[str], None] | None = None

    async def open(self, url: str, timeout: float, every: float, must_be_tls: bool, **options: Any) -> None:
        """Connect to a server.

        Args:
            timeout: seconds for each step of it, and later for an answer to a ping.
            every: seconds between two pings, which notice a server that is gone without a word.

        Raises:
            Exception: of nats-py, of the system, or of TLS; see `failures.of_connecting`.
        """
        self._client.must_be_tls = must_be_tls
        try:
            await self._client.connect(
                [url],
                error_cb=self._failed,
                closed_cb=self._closed,
                allow_reconnect=False,
                connect_timeout=cast(int, timeout),
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                ping_interval=1_000_000,  # we ping
                pending_size=0,  # so that publish() never waits, and fails where it would keep messages for later
                skip_subject_validation=True,
                **options,
            )
        except errors.NoServersError:
            raise self._last or errors.NoServersError() from None
        except BaseException:
            self.abort()
            raise
        self.check_open()
        self._is_open = True
        self._beat = asyncio.get_running_loop().create_task(self._ping(every, timeout))

    def check_open(self) -> None:
        """Raise LinkDown if the connection was lost: it may have been while nobody had heard of it."""
        if self._over.is_set():
            raise LinkDown(
                f"the connection to the servers was lost: {self._client.last_error or 'the server closed it'}"
            )

    # -- what a connection can do

    def publish(self, subject: str, data: bytes, reply: str = "", headers: dict[str, Any] | None = None) -> None:
        """Send a message, without waiting.

        Raises:
            LinkDown: nothing was sent, unless `was_sent` says that it may have been.
            TooLarge: the server takes no message of this size.
        """
        if self._client.pending_data_size > MOST_WAITING:
            raise LinkDown(f"the server reads too slowly: {MOST_WAITING} bytes wait to be sent to it")
        size = len(data) + (_size_of(headers) if headers else 0)
        if size > self._client.max_payload:  # the server would end the connection
            raise TooLarge(
                f"a message of {size} bytes is larger than the servers take ({self._client.max_payload}); "
                f"raise 'max_payload' of the NATS servers, or send less"
            )
        sending = self._client.publish(subject, data, reply, headers)
        try:
            sending.send(None)
        except StopIteration:
            return
        except (errors.Error, OSError, RuntimeError) as error:
            raise LinkDown(f"the connection to the servers is down: {error}") from None
        sending.close()
        if self._client._flusher_task is None or self._client._flusher_task.done():  # nobody has heard of the loss yet
            raise LinkDown("the connection to the servers was lost", was_sent=True)
        raise RuntimeError("this version of nats-py waits in publish(); modvisor needs one that does not")

    def publish_now(self, subject: str, data: bytes, reply: str = "") -> None:
        """Send a message in this turn of the loop. It overtakes what `publish` has taken in this turn.

        `publish` wakes a task of nats-py, which sends. That takes a turn of the loop and a quarter of the
        processor time of a small message.

        Raises: as `publish`.
        """
        client, transport = self._client, self._client._transport
        if not client.is_connected or type(transport) is not TcpTransport or len(data) > client.max_payload:
            return self.publish(subject, data, reply)  # it says what is wrong
        writer = transport._io_writer
        assert writer is not None
        if writer.is_closing():
            raise LinkDown("the connection to the servers was lost")
        if writer.transport.get_write_buffer_size() > MOST_WAITING:
            raise LinkDown(f"the server reads too slowly: {MOST_WAITING} bytes wait to be sent to it")
        writer.write(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(data), data))
        return None

    async def subscribe(self, subject: str, on: Callable[[Msg], None], queue: str = "") -> Subscription:
        """Have each message on a subject handed to `on`, in order. It is in force at this server afterwards.

        Raises:
            LinkDown, NotPermitted.
        """
        receiver = cast("asyncio.Future[Msg]", Receiver(on))
        subject_said = f'"{subject.lower()}"'
        self.refused = [said for said in self.refused if subject_said not in said]  # it may be permitted by now
        try:
            subscribing = self._client.subscribe(subject, queue=queue, future=receiver)
            subscription = await self.until_over(subscribing)
        except errors.Error as error:
            raise LinkDown(f"the connection to the servers is down: {error}") from None
        await self.flush()
        for said in self.refused:
            if subject_said in said:
                raise not_permitted(said)
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        with suppress(errors.Error, LinkDown):
            await self.until_over(subscription.unsubscribe())

    async def drain(self, subscription: Subscription) -> None:
        """End a subscription. What the server has sent before it hears of that is still handed over."""
        # A server that is slow to hear of it may take longer: the task goes on.
        self._draining.add(task := asyncio.get_running_loop().create_task(self._drained(subscription)))
        task.add_done_callback(self._draining.discard)
        await asyncio.wait([task], timeout=DRAIN)

    async def _drained(self, subscription: Subscription) -> None:
        with suppress(errors.Error, LinkDown, TimeoutError, OSError):
            await self.until_over(subscription.drain())

    async def flush(self, timeout: float = 5.0) -> None:
        """Wait until the server has seen all that was sent. Raises LinkDown."""
        try:
            await self._answer(timeout)
        except (errors.Error, OSError, TimeoutError) as error:
            raise LinkDown(f"the connection to the servers is down: {error}", was_sent=True) from None

    async def until_over(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for nats-py, but not for longer than this connection lasts: it may wait for ever then.

        Raises:
            LinkDown: the connection was lost.
            Exception: what nats-py raises.
        """
        task, over = asyncio.ensure_future(work), asyncio.ensure_future(self._over.wait())
        try:
            await asyncio.wait([task, over], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise LinkDown("the connection to the servers was lost", was_sent=True)
            return task.result()
        except RuntimeError as error:  # of uvloop: the connection is closed, and its reader does not know it yet
            raise LinkDown(f"the connection to the servers was lost: {error}", was_sent=True) from None
        finally:
            over.cancel()
            task.add_done_callback(_forgotten)
            task.cancel()

    async def _answer(self, timeout: float) -> None:
        """Ping the server, and wait for its answer. It has seen all that was sent before.

        Raises:
            TimeoutError: no answer came in time.
            LinkDown: the connection was lost.
            Exception: what nats-py and the system raise.
        """
        async with asyncio.timeout(timeout):
            await self.until_over(self._client.rtt(cast(int, timeout)))

    def jetstream(self, timeout: float) -> JetStreamContext:
        return self._client.jetstream(timeout=timeout)

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself when it was connected to."""
        return self._client._server_info

    @property
    def max_payload(self) -> int:
        return self._client.max_payload

    @property
    def others(self) -> list[str]:
        """URLs of servers that the server named."""
        return [url.geturl() for url in self._client.discovered_servers]

    # -- its end

    async def close(self) -> None:
        """Send what waits, and end the connection."""
        self._is_open = False
        self._stop_pinging()
        with suppress(Exception):  # nats-py, TLS and the socket each raise their own; the connection ends all the same
            await asyncio.wait_for(self._client.close(), 2.0)
        self.abort()

    def abort(self) -> None:
        """End the connection at once: what waits is not sent, and a server that reads no more is not waited for."""
        self._is_open = False
        self._over.set()
        self._stop_pinging()
        writer = getattr(self._client._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    def _stop_pinging(self) -> None:
        if self._beat is not None and self._beat is not asyncio.current_task():
            self._beat.cancel()

    def lose(self, reason: str) -> None:
        """Give the connection up, and report that once."""
        if self._is_open:
            self.abort()
            self._on_lost(reason)

    async def _ping(self, every: float, timeout: float) -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await self._answer(timeout)
            except Exception as error:  # noqa: BLE001 - of whatever kind: the server did not answer
                return self.lose(f"the server did not answer within {timeout:g} s ({type(error).__name__})")

    async def _failed(self, error: Exception) -> None:
        if _PERMISSIONS in str(error):
            return self._note_refused(str(error).removeprefix("nats: "))
        self._last = error
        if isinstance(error, (OSError, errors.StaleConnectionError)):
            self.lose(str(error) or type(error).__name__)

    def _note_refused(self, said: str) -> None:
        if said not in self.refused:
            self.refused.append(said)
        if self.on_refused is not None:
            self.on_refused(said)

    async def _closed(self) -> None:
        self._over.set()
        self.lose(str(self._client.last_error or "the server closed the connection"))
