"""The client for programs without an event loop: scripts, notebooks, threads.

    with AgentClient("http://127.0.0.1:8700", "alice") as me:
        me.send("chat.message", {"text": "hello"}, to="bob")
        for event in me.events("chat.*"):
            print(event.source_id, event.text)

The client itself runs in a thread with a loop of its own. Every method may be called from any
thread, also from handlers.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from . import client
from .client import DEFAULT_URL
from .errors import BadUse, Closed, ModvisorClientError
from .event import Event, Response
from .streams import EventStream as AsyncEventStream
from .streams import Handler

Value = TypeVar("Value")
SomeHandler = TypeVar("SomeHandler", bound=Handler)


class EventStream:
    """The events that match some patterns, to iterate over with `for`."""

    def __init__(self, portal: BlockingPortal, stream: AsyncEventStream, is_open: Callable[[], bool]) -> None:
        self._portal, self._stream, self._is_open = portal, stream, is_open
        self._drop = weakref.finalize(self, _close, portal, stream)
        self._drop.atexit = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        return self.next()

    def next(self, timeout: float | None = None) -> Event:
        """Wait for the next event.

        Raises:
            TimeoutError: none came within so many seconds.
            StopIteration: the client was closed.
        """
        event = self._portal.call(_next_or_none, self._stream, timeout) if self._is_open() else None
        if event is None:
            raise StopIteration
        return event

    def close(self) -> None:
        """Take no more events."""
        self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


async def _next_or_none(stream: AsyncEventStream, timeout: float | None) -> Event | None:
    """Return the next event; None at the end: StopAsyncIteration cannot pass between threads."""
    try:
        return await stream.next(timeout)
    except StopAsyncIteration:
        return None


def _close(portal: BlockingPortal, stream: AsyncEventStream) -> None:
    with suppress(RuntimeError):  # the loop has ended, and the stream with it
        portal.start_task_soon(stream.aclose)


class AgentClient:
    """An agent's connection, for use inside `with`. Arguments are those of `modvisor_client.AgentClient`.

    Args:
        backend: the loop of anyio that runs the client: `asyncio` or `trio`.
    """

    def __init__(self, url: str = DEFAULT_URL, agent_id: str = "", *, backend: str = "asyncio", **more: Any) -> None:
        self._make = partial(client.AgentClient, url, agent_id, **more)
        self._make()  # wrong arguments are told here
        self._backend = backend
        self._handlers: list[tuple[Handler, tuple[str, ...], int]] = []
        self._running: tuple[BlockingPortal, client.AgentClient] | None = None

    def __enter__(self) -> Self:
        if self._running is not None:
            raise BadUse("the client is open already; make a new AgentClient")
        self._thread: AbstractContextManager[BlockingPortal] = start_blocking_portal(self._backend)
        portal = self._thread.__enter__()
        try:
            me = portal.call(self._made)
            self._life = portal.wrap_async_context_manager(me)
            self._life.__enter__()
        except BaseException as error:
            self._thread.__exit__(type(error), error, error.__traceback__)
            raise
        self._running = portal, me
        return self

    async def _made(self) -> client.AgentClient:
        me = self._make()
        for handler, patterns, concurrency in self._handlers:
            me.on(*patterns, concurrency=concurrency)(handler)
        return me

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._life.__exit__(kind, error, traceback)
        finally:
            self._thread.__exit__(None, None, None)
            self._running = None

    def _opened(self) -> tuple[BlockingPortal, client.AgentClient]:
        if self._running is None:
            raise Closed("the client is not connected: use it inside 'with AgentClient(…) as me:'")
        return self._running

    def _run(self, ask: Callable[[client.AgentClient], Coroutine[Any, Any, Value]]) -> Value:
        portal, me = self._opened()
        return portal.call(ask, me)

    # -- as modvisor_client.AgentClient has it

    def send(self, event_name: str, payload: Mapping[str, Any] | None = None, **more: Any) -> Response:
        """Send an event, and wait until it was handled or delivered."""
        return self._run(lambda me: me.send(event_name, payload, **more))

    def request(self, event_name: str, payload: Mapping[str, Any] | None = None, **more: Any) -> Any:
        """Send an event and return the data of the answer; raise the error of a failure."""
        return self._run(lambda me: me.request(event_name, payload, **more))

    def reply(self, event: Event, data: Any = None) -> Response:
        """Answer the request of another agent."""
        return self._run(lambda me: me.reply(event, data))

    def refuse(self, event: Event, error: ModvisorClientError) -> Response:
        """Answer the request of another agent with a failure."""
        return self._run(lambda me: me.refuse(event, error))

    def events(self, *patterns: str) -> EventStream:
        """Iterate over the events whose names match: `for event in me.events("chat.*")`."""
        portal, me = self._opened()
        return EventStream(portal, portal.call(me.events, *patterns), lambda: self._running is not None)

    def on(self, *patterns: str, concurrency: int = 1) -> Callable[[SomeHandler], SomeHandler]:
        """Have a function called with each event whose name matches, in a thread of its own."""

        def decorate(handler: SomeHandler) -> SomeHandler:
            if self._running is None:
                self._handlers.append((handler, patterns, concurrency))
            else:
                portal, me = self._running
                portal.call(lambda: me.on(*patterns, concurrency=concurrency)(handler))
            return handler

        return decorate

    def run(self) -> None:
        """Wait until the connection ends for good, while handlers work."""
        self._run(lambda me: me.run())

    def unregister(self) -> Response:
        """Leave the network for good."""
        return self._run(lambda me: me.unregister())

    def command(self, name: str, **payload: Any) -> Any:
        """Send `system.NAME` and return the data of its answer."""
        return self._run(lambda me: me.command(name, **payload))

    def subscribe(self, *patterns: str, channels: Iterable[str] | None = None) -> str:
        """Have only events delivered that match. Return the id of the subscription."""
        return self._run(lambda me: me.subscribe(*patterns, channels=channels))

    def unsubscribe(self, subscription_id: str | None = None) -> None:
        """Give up a subscription; without an id, all of them."""
        self._run(lambda me: me.unsubscribe(subscription_id))

    def join(self, channel: str) -> None:
        """Become a member of a channel."""
        self._run(lambda me: me.join(channel))

    def part(self, channel: str) -> None:
        """Leave a channel."""
        self._run(lambda me: me.part(channel))

    def members(self, channel: str) -> list[str]:
        """Return the ids of a channel's members."""
        return self._run(lambda me: me.members(channel))

    def channels(self) -> Any:
        """Return the channels."""
        return self._run(lambda me: me.channels())

    def agents(self) -> list[dict[str, Any]]:
        """Return the agents that this agent may know of."""
        return self._run(lambda me: me.agents())

    def mods(self) -> list[dict[str, Any]]:
        """Return the mods of the network."""
        return self._run(lambda me: me.mods())

    @property
    def agent_id(self) -> str:
        return self._opened()[1].agent_id

    @property
    def secret(self) -> str | None:
        return self._opened()[1].secret

    @property
    def group(self) -> str | None:
        return self._opened()[1].group

    @property
    def network_name(self) -> str | None:
        return self._opened()[1].network_name

    @property
    def is_connected(self) -> bool:
        return self._running is not None and self._running[1].is_connected

    @property
    def unclaimed(self) -> int:
        return self._opened()[1].unclaimed

    @property
    def losses(self) -> int:
        return self._opened()[1].losses
