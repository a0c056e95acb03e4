"""Keeps an agent connected: connects, reads, writes, and connects again after a random wait.

One task reads and one writes. What is read goes through the `Session`, which knows what it means.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import anyio

from .backoff import Backoff
from .errors import (
    Closed,
    Forbidden,
    ModvisorClientError,
    RemoteProtocolError,
    TakenOver,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unreachable,
)
from .event import Response
from .frames import pack, unpack
from .session import Answered, Complained, Delivered, Lost, Outcome, Refused, Session, Welcomed
from .websocket import WebSocket, WebSocketClosed

logger = logging.getLogger("modvisor_client")

HELLO_TIMEOUT = 15.0
"""Seconds for a connection to stand, and then for the hello to be answered."""

SILENCE = 20.0
"""Seconds without a message after which the network is asked whether it lives, unless it says another number."""

OFFLINE = 60.0
"""Seconds without a connection after which requests fail that have no deadline of their own."""

HELD_ID = 90.0
"""Seconds for which an id that is taken may be held by a lost registration of this client's own."""

PASSING = frozenset(
    {"too_many", "overloaded", "busy", "not_running", "storage_full", "timeout", "internal_error", "unreachable"}
)
"""Codes of refusals that may be gone with the next attempt."""

REFUSING = frozenset({4400, 4401, 4403, 4409, 4429})
CLOSE_CODES: dict[int, type[ModvisorClientError]] = {
    1009: TooLarge,
    4400: RemoteProtocolError,
    4401: Unauthenticated,
    4403: Forbidden,
    4409: TakenOver,
    4429: TooMany,
}
"""What a close code means if no message said more. All others are a lost connection."""

DROPPED = "the connection was dropped"
PING = pack({"type": "ping", "id": 0})


class Waiter:
    """Somebody who waits for the answer to a request."""

    __slots__ = ("_answer", "_answered")

    def __init__(self) -> None:
        self._answered = anyio.Event()
        self._answer: Response | ModvisorClientError | None = None

    def answer(self, answer: Response | ModvisorClientError) -> None:
        """Take the answer. A later one does not count."""
        if not self._answered.is_set():
            self._answer = answer
            self._answered.set()

    async def wait(self) -> Response:
        """Return the response, or raise the error that came instead."""
        await self._answered.wait()
        if isinstance(self._answer, Response):
            return self._answer
        assert self._answer is not None
        raise self._answer


class Listener(Protocol):
    """Who is told what comes over the link."""

    async def welcomed(self, welcome: Welcomed) -> None: ...
    def delivered(self, events: Delivered) -> None: ...
    def lost_events(self, lost: Lost) -> None: ...
    def ended(self, error: ModvisorClientError) -> None: ...


class Link:
    """The connection of an agent, over and over.

    Args:
        connect: opens a WebSocket.
        reconnects: whether a lost connection is replaced.

    Attributes:
        last_error: why the last connection, or attempt, ended.
    """

    def __init__(
        self,
        session: Session[Waiter],
        connect: Callable[[], Awaitable[WebSocket]],
        listener: Listener,
        *,
        reconnects: bool = True,
    ) -> None:
        self._session = session
        self._connect = connect
        self._listener = listener
        self._reconnects = reconnects
        self._backoff = Backoff()
        self._outbox: list[bytes] = []
        self._work = anyio.Event()
        self._has_work = False
        self._is_leaving = self._is_last = self._was_connected = False
        self._farewells: set[Waiter] = set()
        self._attempts = anyio.CancelScope()
        self._offline_since: float | None = None
        self._silence = SILENCE
        self._end: ModvisorClientError | None = None
        self.last_error: ModvisorClientError | None = None

    # -- for the client

    @property
    def is_connected(self) -> bool:
        return self._session.is_welcome

    def wake(self) -> None:
        """Have the writer look for something to send: messages, acks, credit."""
        self._has_work = True
        self._work.set()

    @contextmanager
    def expecting_the_end(self, farewell: Waiter) -> Iterator[None]:
        """While the block waits for this answer, the network may remove the agent.

        A connection that ends before the answer is replaced, and the request is sent again. If the
        network does not know the agent by then, it has left.
        """
        self._farewells.add(farewell)
        try:
            yield
        finally:
            self._farewells.discard(farewell)

    def say_goodbye(self) -> None:
        """Have the last acks sent, and the connection closed for good; `run` ends then."""
        self._is_last = self._is_leaving = True
        self.wake()
        if not self._session.is_welcome:
            self._attempts.cancel()

    # -- its life

    async def run(self) -> None:
        """Keep the agent connected until that is hopeless, or not wanted any more."""
        with self._attempts:
            await self._stay_connected()
        if self._end is None:
            self._finish(Closed(f"agent {self._agent_id} has left"))

    async def _stay_connected(self) -> None:
        while True:
            try:
                error = await self._live_once()
            except ModvisorClientError as failure:
                error = failure
            self.last_error = error
            wait = self._wait_after(error)
            if wait is None:
                if not self._is_last:
                    self._finish(error)
                return
            logger.debug("agent %s is not connected: %s; next attempt in %.1f s", self._agent_id, error, wait)
            self._fail_after_long(error)
            await anyio.sleep(wait)

    @property
    def _agent_id(self) -> str:
        return self._session.identity.agent_id

    async def _live_once(self) -> ModvisorClientError:
        """Connect, and stay so as long as it goes. Return why it ended."""
        self._offline_since = self._offline_since or anyio.current_time()
        socket = await self._connected()
        end: ModvisorClientError = Unreachable(DROPPED)
        was_refused = False
        try:
            self._outbox = [pack(self._session.hello())]
            self.wake()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, socket)
                was_refused, end = await self._read(socket)
                tasks.cancel_scope.cancel()
        finally:
            self._session.disconnected(was_refused=was_refused)
            await socket.close()
        return end

    async def _connected(self) -> WebSocket:
        with anyio.move_on_after(HELLO_TIMEOUT):
            return await self._connect()
        raise Unreachable(f"no network answered in {HELLO_TIMEOUT:g} s")

    async def _read(self, socket: WebSocket) -> tuple[bool, ModvisorClientError]:
        """Take in what comes. Return whether the network ended it with a reason, and the reason."""
        try:
            while True:
                message = await self._next(socket)
                outcome = None if message is None else self._session.received(unpack(message))
                if isinstance(outcome, Refused):
                    return True, outcome.error
                if outcome is not None:
                    await self._take(outcome)
                if socket.pong_is_due:
                    self.wake()
        except WebSocketClosed as closed:
            return closed.code in REFUSING, self._meaning(closed)
        except TimeoutError:
            return False, Unreachable("the network fell silent")
        except ModvisorClientError as error:
            return True, error

    async def _next(self, socket: WebSocket) -> bytes | None:
        """Wait for the next message. Ask a silent network for a sign of life.

        Raises:
            TimeoutError: it gave none.
        """
        if socket.has_more:
            return await socket.receive()
        if not self._session.is_welcome:
            with anyio.fail_after(HELLO_TIMEOUT):
                return await socket.receive()
        with anyio.move_on_after(self._silence):
            return await socket.receive()
        self._outbox.append(PING)
        self.wake()
        with anyio.fail_after(self._silence):
            return await socket.receive()

    async def _write(self, socket: WebSocket) -> None:
        """Send what there is to send, until the connection ends."""
        with suppress(WebSocketClosed):
            while True:
                if not self._has_work:
                    self._work = anyio.Event()
                    await self._work.wait()
                self._has_work = False
                messages, self._outbox = self._outbox, []
                messages.extend(self._session.messages())
                await socket.send(*messages)
                if self._is_leaving:
                    break
        await socket.close()

    async def _take(self, outcome: Outcome) -> None:
        """Pass on what came."""
        match outcome:
            case Answered(waiter, answer):
                self._is_last |= waiter in self._farewells and answer.success
                waiter.answer(answer)
            case Delivered():
                self._listener.delivered(outcome)
            case Welcomed():
                await self._welcomed(outcome)
            case Lost():
                self._listener.lost_events(outcome)
            case Complained(error):
                logger.warning("the network refused a message of agent %s: %s", self._agent_id, error)
            case Refused():
                pass
        self.wake()

    async def _welcomed(self, welcome: Welcomed) -> None:
        self._offline_since, self._was_connected = None, True
        self._backoff.reset()
        ping = welcome.limits.get("ping")
        self._silence = float(ping) if ping else SILENCE
        await self._listener.welcomed(welcome)

    # -- its ends

    def _meaning(self, closed: WebSocketClosed) -> ModvisorClientError:
        """Return the error that a close code stands for, if no message named one."""
        kind = CLOSE_CODES.get(closed.code, Unreachable)
        return kind(f"the connection ended: {closed}")

    def _wait_after(self, error: ModvisorClientError) -> float | None:
        """Return the seconds to wait before the next attempt; None: there is none."""
        if self._farewells and self._session.is_forgotten(error):
            self._is_last = True
            for farewell in self._farewells:
                farewell.answer(Response(True, f"agent {self._agent_id} has left"))
        if self._is_last or (self._was_connected and not self._reconnects):
            return None
        if self._session.may_register_instead(error):
            return self._backoff.next()
        if error.code in PASSING:
            return max(self._backoff.next(), _retry_after(error))
        if error.code == "id_taken" and self._session.may_hold_the_id and self._offline_for() < HELD_ID:
            return self._backoff.next()
        return None

    def _offline_for(self) -> float:
        return 0.0 if self._offline_since is None else anyio.current_time() - self._offline_since

    def _fail_after_long(self, error: ModvisorClientError) -> None:
        if self._offline_for() > OFFLINE:
            self._fail_all(Unreachable(f"no connection for {OFFLINE:.0f} s: {error}"))

    def _finish(self, error: ModvisorClientError) -> None:
        self._end = error
        self._fail_all(error)
        self._listener.ended(error)

    def _fail_all(self, error: ModvisorClientError) -> None:
        for waiter in self._session.waiters():
            waiter.answer(error)


def _retry_after(error: ModvisorClientError) -> float:
    seconds = error.data.get("retry_after")
    return float(seconds) if isinstance(seconds, int | float) else 0.0
