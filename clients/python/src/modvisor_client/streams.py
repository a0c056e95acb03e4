"""How an agent's events come to its program: as a stream to iterate over, or to handlers."""

from __future__ import annotations

import inspect
import logging
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, Self

import anyio
import anyio.to_thread

from .errors import BadUse, ModvisorClientError
from .event import Event
from .inflow import Arrived
from .mailboxes import Ended, Mailbox, Mailboxes

logger = logging.getLogger("modvisor_client")

Handler = Callable[[Event], Any]


class EventStream:
    """The events that match some patterns, to iterate over with `async for`.

    It takes events from the moment when it is made. An event counts as handled when the next one
    is asked for, or when the stream is closed or dropped; not if an error ends the client then. It
    ends when the client is closed.

    Args:
        settle: has what is dropped settled soon. The end of a loop by an error looks like any other
            one, so it is settled only when the client goes on.
    """

    def __init__(self, boxes: Mailboxes, patterns: tuple[str, ...], settle: Callable[[], None]) -> None:
        self._boxes = boxes
        self._box = boxes.open(patterns)
        self._present: Arrived | None = None
        self._drop = weakref.finalize(self, _drop, boxes, self._box, settle)
        self._drop.atexit = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        self._is_done()
        try:
            self._present = await self._box.take()
        except Ended:
            raise StopAsyncIteration from None
        return self._present.event

    def _is_done(self) -> None:
        if self._present is not None:
            self._boxes.done(self._box, self._present)
            self._present = None

    async def next(self, timeout: float | None = None) -> Event:
        """Wait for the next event.

        Raises:
            TimeoutError: none came within so many seconds.
            StopAsyncIteration: the client was closed.
        """
        with anyio.fail_after(timeout):
            return await self.__anext__()

    async def aclose(self) -> None:
        """Take no more events."""
        self._drop.detach()
        self._boxes.close(self._box)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *more: object) -> None:
        if kind is None:
            await self.aclose()
        else:
            self._drop()


def _drop(boxes: Mailboxes, box: Mailbox, settle: Callable[[], None]) -> None:
    boxes.drop(box)
    settle()


class Replier(Protocol):
    """What a handler's answer goes through."""

    async def reply(self, event: Event, data: Any = None) -> Any: ...
    async def refuse(self, event: Event, error: ModvisorClientError) -> Any: ...


class Listening:
    """A handler and the events that it is called with."""

    def __init__(self, handler: Handler, patterns: tuple[str, ...], concurrency: int) -> None:
        if not callable(handler):
            raise BadUse(f"handler {handler!r}: expected a function that takes the event")
        if type(concurrency) is not int or concurrency < 1:
            raise BadUse(f"concurrency {concurrency!r}: expected a whole number of at least 1")
        self._handler = handler
        self._is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004
        )
        self.patterns = patterns
        self.concurrency = concurrency

    async def work(self, boxes: Mailboxes, box: Mailbox, replier: Replier) -> None:
        """Call the handler with one event after the other, until no more come."""
        while True:
            try:
                arrived = await box.take()
            except (Ended, ModvisorClientError):
                return
            await self._handle(arrived.event, replier)
            boxes.done(box, arrived)

    async def _handle(self, event: Event, replier: Replier) -> None:
        try:
            answer = await self._call(event)
            if answer is not None and event.requires_response:
                await replier.reply(event, answer)
        except Exception as error:  # of the user's code; the next event still gets its turn
            logger.exception("the handler of %s failed at event %s", event.event_name, event.event_id)
            if event.requires_response:
                await self._report(event, error, replier)

    async def _call(self, event: Event) -> Any:
        if self._is_async:
            return await self._handler(event)
        answer = await anyio.to_thread.run_sync(partial(self._handler, event))
        return await answer if isinstance(answer, Awaitable) else answer

    async def _report(self, event: Event, error: Exception, replier: Replier) -> None:
        from_client = isinstance(error, ModvisorClientError)
        told = error if from_client else ModvisorClientError(f"{type(error).__name__}: {error}", code="handler_error")
        try:
            await replier.refuse(event, told)
        except ModvisorClientError as failure:
            logger.warning("the failure of event %s could not be told: %s", event.event_id, failure)
