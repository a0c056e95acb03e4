"""`AgentClient`: one agent's connection to a network, as its program sees it."""

from __future__ import annotations

import hashlib
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
import anyio.to_thread

from .address import DEFAULT_PORT, Address
from .commands import Commands
from .errors import BadUse, Closed, ModvisorClientError, NoSuchAgent, Timeout, Unreachable
from .event import REPLY, Event, Response, new_event_id
from .frames import LARGE
from .inflow import WINDOW, Arrived, Inflow
from .link import Link, Waiter
from .outgoing import event_of, files_of, is_large
from .patterns import check_patterns
from .reception import Reception
from .secret_file import read_secret, remove_secret, write_secret
from .session import Delivered, Identity, Lost, Session, Welcomed
from .streams import EventStream, Handler, Listening
from .tls import Certificate, Verify, make_context
from .tracing import traced
from .websocket import connect

if TYPE_CHECKING:
    from .upload import Uploads

logger = logging.getLogger("modvisor_client")

DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
GRACE = 10.0
"""Seconds that a client waits for an answer after the event's own deadline."""

GOODBYE = 5.0
"""Seconds that handlers have to end their event, and then that the network has to take the last acks."""

MOST = 128 * 1024 * 1024
"""Bytes of a message from the network."""

UNREGISTER = "system.unregister_agent"

_AGENT_ID = re.compile(r"[A-Za-z0-9_.@-]+")

SomeHandler = TypeVar("SomeHandler", bound=Handler)


class AgentClient(Commands):
    """An agent's connection to a network. Use it inside `async with`, which registers the agent.

        async with AgentClient("http://127.0.0.1:8700", "alice") as me:
            await me.send("chat.message", {"text": "hello"}, to="bob")
            async for event in me.events("chat.*"):
                print(event.source_id, event.text)

    A lost connection is replaced, and nothing is lost or repeated: the network keeps events until
    they are handled, and a request that has no answer is sent again with the same event id.

    Args:
        url: the network's address: `http://HOST:PORT`; https, ws and wss are understood, too.
        agent_id: letters, digits, `_`, `.`, `@`, `-`.
        group: the group to join.
        password: the group's password. Its SHA-256 is sent.
        password_hash: this SHA-256, instead of the password.
        metadata: describes the agent; others see `name` and `capabilities`.
        invite: the code of an invitation, where the network asks for one.
        secret: the agent's present secret, to be the same agent as before.
        secret_file: keeps the secret, so that the agent is the same at the next start. It is made
            with mode 0600.
        cursor: `event.cursor` of the last event that an earlier run handled. A program that writes it
            down together with what it does with an event handles each one once, even if it is
            killed in between. It needs the secret of then, too.
        leave: whether the agent unregisters at the end. Default: unless it has a `secret` or
            `secret_file` to come back with.
        window: how many events may be on the way to the program at once.
        connect_timeout: seconds for which the first connection is tried.
        reconnect: whether a lost connection is replaced.
        verify: whose certificates are trusted: True, those of the machine; a path; False, any;
            or an `ssl.SSLContext`.
        cert: the client's own certificate: a file, or (certificate, key).

    Attributes:
        group: the group that the network put the agent in.
        losses: how many events the network dropped because the agent's inbox was full.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        agent_id: str = "",
        *,
        group: str | None = None,
        password: str | None = None,
        password_hash: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        invite: str | None = None,
        secret: str | None = None,
        secret_file: str | Path | None = None,
        cursor: str | None = None,
        leave: bool | None = None,
        window: int = WINDOW,
        connect_timeout: float = 10.0,
        reconnect: bool = True,
        verify: Verify = True,
        cert: Certificate | None = None,
    ) -> None:
        if not isinstance(agent_id, str) or not _AGENT_ID.fullmatch(agent_id.removeprefix("agent:")):
            raise BadUse(f"agent_id {agent_id!r}: expected letters, digits, '_', '.', '@', '-', such as 'alice'")
        if type(window) is not int or window < 1:
            raise BadUse(f"window {window!r}: expected a whole number of at least 1")
        self.agent_id = agent_id.removeprefix("agent:")
        self.group: str | None = None
        self.network_id: str | None = None
        self.network_name: str | None = None
        self.losses = 0
        self._url = Address.parse(url)
        self._verify, self._cert = verify, cert
        if password is not None:
            password_hash = hashlib.sha256(password.encode()).hexdigest()
        joining = {
            "metadata": None if metadata is None else dict(metadata),
            "group": group,
            "password_hash": password_hash,
            "invite": invite,
        }
        self._identity = Identity(self.agent_id, secret, joining)
        self._secret_file = None if secret_file is None else Path(secret_file).expanduser()
        self._leaves = (secret is None and secret_file is None) if leave is None else leave
        self._connect_timeout, self._reconnects = connect_timeout, reconnect
        self._inflow = Inflow(window, cursor)
        self._reception = Reception(self._handled, self)
        self._session: Session[Waiter] = Session(self._identity, self._inflow)
        self._link: Link | None = None
        self._uploads: Uploads | None = None
        self._context: ssl.SSLContext | None = None
        self._ready = anyio.Event()
        self._over = anyio.Event()
        self._end: ModvisorClientError | None = None

    # -- its life

    async def __aenter__(self) -> Self:
        if self._link is not None:
            raise BadUse(f"agent {self.agent_id} was opened before; make a new AgentClient")
        if self._secret_file is not None and self._identity.secret is None:
            self._identity.secret = await anyio.to_thread.run_sync(read_secret, self._secret_file)
        if self._url.is_secure:
            self._context = await anyio.to_thread.run_sync(make_context, self._verify, self._cert)
        self._link = Link(
            self._session, partial(connect, self._url, self._context, MOST), self, reconnects=self._reconnects
        )
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        try:
            self._tasks.start_soon(self._link.run)
            await self._until_connected(self._link)
        except BaseException:
            await self._stop()
            raise
        self._reception.start(self._tasks)
        return self

    async def _until_connected(self, link: Link) -> None:
        with anyio.move_on_after(self._connect_timeout):
            await self._ready.wait()
        if self._end is not None:
            raise self._end
        if not self._ready.is_set():
            raise link.last_error or Unreachable(f"no network answered at {self._url} in {self._connect_timeout:g} s")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            with anyio.move_on_after(GOODBYE, shield=True):
                if kind is None:
                    await self._reception.finish()
            with anyio.move_on_after(GOODBYE, shield=True):
                await self._say_goodbye()
        finally:
            await self._stop()

    async def _say_goodbye(self) -> None:
        link = self._link
        if link is None or self._end is not None:
            return
        try:
            if self._leaves and link.is_connected:
                with suppress(Unreachable):
                    await self.unregister()
        finally:
            link.say_goodbye()
            await self._over.wait()

    async def _stop(self) -> None:
        self._tasks.cancel_scope.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._reception.end(self._end or Closed(f"agent {self.agent_id} was closed"))
        if self._uploads is not None:
            with anyio.CancelScope(shield=True):
                await self._uploads.aclose()

    async def run(self) -> None:
        """Wait until the connection ends for good, while handlers work.

        Raises:
            ModvisorClientError: why it ended, such as `TakenOver`.
        """
        await self._over.wait()
        if self._end is not None and not isinstance(self._end, Closed):
            raise self._end

    @property
    def secret(self) -> str | None:
        """What proves that a connection is this agent's."""
        return self._identity.secret

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands at this moment."""
        return self._link is not None and self._link.is_connected

    @property
    def unclaimed(self) -> int:
        """How many events came that no handler and no stream wanted."""
        return self._reception.unclaimed

    # -- sending

    async def send(
        self,
        event_name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        to: str | None = None,
        files: Mapping[str, str | Path] | None = None,
        timeout: float | None = None,
        event_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Response:
        """Send an event, and wait until it was handled or delivered.

        Args:
            to: `bob`, `channel:ID`, `group:ID`, `mod:ID`, `agent:broadcast`; None: any mod that
                handles the event.
            files: paths of files by the key of the payload that gets their bytes. They are read
                while they are sent.
            timeout: seconds until the event is given up. None: as the network says.
            event_id: repeats an earlier event: the network answers as it did then.
            metadata: besides these, an event carries the current span of OpenTelemetry, if there is one.
            fields: other fields of an event: `visibility`, `allowed_agents`, `thread_name`,
                `text_representation`, `requires_response`, `response_to`.

        Returns:
            What became of it. A failure is a response, too; `.check()` raises it as an error.

        Raises:
            Timeout: no answer came in time.
            Unreachable: the connection was lost and did not come back.
            BadUse: the payload holds what cannot travel.
        """
        if event_name == UNREGISTER and self._is_me((payload or {}).get("agent_id")):
            return await self.unregister()  # the connection ends with it, so it is no event like others
        event = event_of(event_name, payload, to, timeout, event_id, traced(metadata), fields)
        limit = None if timeout is None else timeout + GRACE
        if files:
            event["payload"] |= await anyio.to_thread.run_sync(files_of, files)
        if files or is_large(event["payload"]):
            return await self._upload(event, limit)
        return await self._ask("send", {"event": event}, limit)

    async def request(
        self,
        event_name: str,
        payload: Mapping[str, Any] | None = None,
        *,
        to: str | None = None,
        timeout: float = 30.0,
        **more: Any,
    ) -> Any:
        """Send an event and return the data of the answer: of the mod that handles it, or of an agent.

        An agent answers with `reply`, or by what its handler returns.

        Raises:
            ModvisorClientError: the error of the answer's code, such as `NoSuchMod`.
        """
        if to is None:
            sent = await self.send(event_name, payload, timeout=timeout, requires_response=True, **more)
            return sent.check().data
        event_id = more.pop("event_id", None) or new_event_id()
        reply = self._reception.expect(event_id)
        more |= {"to": to, "timeout": timeout, "event_id": event_id, "requires_response": True}
        try:
            sent = await self.send(event_name, payload, **more)
            if sent.delivered is None:
                return sent.check().data
            if not sent.delivered:
                raise NoSuchAgent(f"{event_name} to {to} reached no agent")
            return (await _within(timeout, reply, f"no answer to {event_name} from {to}")).check().data
        finally:
            self._reception.forget(event_id)

    async def reply(self, event: Event, data: Any = None) -> Response:
        """Answer the request of another agent."""
        return await self._reply(event, {"success": True, "data": data})

    async def refuse(self, event: Event, error: ModvisorClientError) -> Response:
        """Answer the request of another agent with a failure, which its `request` raises."""
        return await self._reply(event, {"success": False, "error": error.code, "message": str(error)})

    async def _reply(self, event: Event, payload: dict[str, Any]) -> Response:
        return await self.send(REPLY, payload, to=event.source_id, response_to=event.event_id)

    def _is_me(self, agent_id: Any) -> bool:
        """Return whether a command about this agent, or about none, is about this one."""
        return agent_id is None or agent_id in (self.agent_id, f"agent:{self.agent_id}")

    async def _ask(
        self, kind: str, content: dict[str, Any], seconds: float | None = 60.0, waiter: Waiter | None = None
    ) -> Response:
        link, waiter = self._opened(), waiter or Waiter()
        number, message = self._session.request(kind, content, waiter)
        if len(message) > LARGE and kind == "send":
            self._session.forget(number)
            return await self._upload(content["event"], seconds)
        try:
            link.wake()
            return await _within(seconds, waiter, "the network did not answer")
        except Timeout as error:
            if link.is_connected:
                raise
            raise Timeout(f"{error}, since there is no connection: {link.last_error}") from None
        finally:
            self._session.forget(number)

    async def _upload(self, event: dict[str, Any], seconds: float | None) -> Response:
        self._opened()
        if self._uploads is None:
            from .upload import Uploads  # brings httpx, whose import takes 90 ms, and few agents need it

            self._uploads = Uploads(self._url, self._identity, self._context)
        return await self._uploads.send(event, seconds)

    def _opened(self) -> Link:
        if self._end is not None:
            raise self._end
        if self._link is None:
            raise Closed(
                f"agent {self.agent_id} is not connected yet: use it inside 'async with AgentClient(…) as me:'"
            )
        return self._link

    async def unregister(self) -> Response:
        """Leave the network for good: the id is free, the secret worthless, and the connection ends.

        Raises:
            Unreachable, Timeout: the network did not answer, and the agent may still be there. Its
                secret is kept. Or the error with which the network refused.
        """
        link, waiter = self._opened(), Waiter()
        with link.expecting_the_end(waiter):
            response = (await self._ask("unregister", {}, waiter=waiter)).check()
        if self._secret_file is not None:
            await anyio.to_thread.run_sync(remove_secret, self._secret_file)
        return response

    # -- receiving

    def events(self, *patterns: str) -> EventStream:
        """Iterate over the events whose names match: `async for event in me.events("chat.*")`.

        Patterns are exact names, `a.*` or `*`; without any, all events come. Events that nobody
        wants are dropped as soon as there is a stream or a handler.
        """
        self._opened()
        return self._reception.stream(patterns)

    def on(self, *patterns: str, concurrency: int = 1) -> Callable[[SomeHandler], SomeHandler]:
        """Have a function called with each event whose name matches.

            @me.on("wiki.page.*")
            async def changed(event): ...

        A coroutine function is awaited; any other is called in a thread. What it returns is the
        reply, if the sender waits for one. If it raises, that is logged, and told to such a sender.

        Args:
            concurrency: how many events it handles at once.
        """
        checked = check_patterns(patterns)

        def decorate(handler: SomeHandler) -> SomeHandler:
            self._reception.add(Listening(handler, checked, concurrency))
            return handler

        return decorate

    def _handled(self, arrived: Arrived) -> None:
        self._inflow.handled(arrived)
        if self._link is not None:
            self._link.wake()

    # -- what the link tells

    async def welcomed(self, welcome: Welcomed) -> None:
        self.group, self.network_id, self.network_name = welcome.group, welcome.network_id, welcome.network_name
        if welcome.is_new and self._secret_file is not None and self.secret is not None:
            await anyio.to_thread.run_sync(write_secret, self._secret_file, self.secret)
        self._ready.set()

    def delivered(self, events: Delivered) -> None:
        self._reception.deliver(events.events)

    def lost_events(self, lost: Lost) -> None:
        self.losses += lost.events
        logger.warning(
            "agent %s: the inbox was full, and %d events were lost: %s", self.agent_id, lost.events, lost.sources
        )

    def ended(self, error: ModvisorClientError) -> None:
        self._end = error
        self._ready.set()
        self._over.set()
        self._reception.end(error)


async def _within(seconds: float | None, waiter: Waiter, otherwise: str) -> Response:
    """Wait for an answer. Raise `Timeout` if it does not come in time."""
    if seconds is None:
        return await waiter.wait()
    with anyio.move_on_after(seconds):
        return await waiter.wait()
    raise Timeout(f"{otherwise} within {seconds:g} s")
