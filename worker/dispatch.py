"""Give an event to the handlers of one mod, and return their answer."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import inspect
import linecache
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

from ..ipc.errors import Code, ModvisorError, Refused
from ..ipc.event import Event, EventResponse
from ..ipc.topic import TopicTable
from ..mods.handlers import Handler
from . import limits
from .crash import describe

Answer = EventResponse | Event | None

MAX_KNOWN = 4096
"""Event names whose handlers are remembered. The names come from outside, so there is a cap."""


class HandlerFailed(ModvisorError):
    """A handler raised, or returned something that is no answer.

    ``details`` has type, where (file:line), handler and traceback. With the code `limit_hit`, the
    mod hit one of its limits, and ``details["limit"]`` names it as the config does.
    """

    code = Code.HANDLER_ERROR


class Dispatcher:
    """The handlers of one mod; the most specific pattern is asked first.

    Plain handlers run in ``executor`` with a copy of the caller's context. Coroutine handlers run
    on the running loop.

    Args:
        sources: returns file name and source of the mod's own modules, to locate failures.
    """

    def __init__(
        self, handlers: Iterable[Handler], executor: Executor, sources: Callable[[], Mapping[str, bytes]] = dict
    ) -> None:
        self._executor = executor
        self._sources = sources
        self._asked: TopicTable[Handler] = TopicTable()
        self._known: dict[str, list[Handler]] = {}  # handlers by event name, remembered
        self._observers: TopicTable[Handler] = TopicTable()
        patterns: dict[str, None] = {}
        observes: dict[str, None] = {}
        for handler in handlers:
            (self._observers if handler.observe else self._asked).add(handler.pattern, handler)
            (observes if handler.observe else patterns)[handler.pattern] = None
        self.patterns = tuple(patterns)
        self.observes = tuple(observes)

    async def ask(self, event: Event, handlers: list[Handler] | None = None) -> tuple[Answer, str]:
        """Ask the handlers in turn until one answers. The later ones get an event that was changed.

        Args:
            handlers: ask these; None: those whose patterns match.

        Returns:
            the answer and the name of its handler. The answer is an `EventResponse`, a changed
            `Event`, or None if no handler answered.

        Raises:
            HandlerFailed: a handler raised; the later ones are not asked.
        """
        if handlers is None and (handlers := self._known.get(event.event_name)) is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            handlers = self._known[event.event_name] = self._asked.match(event.event_name)
        by = ""
        for handler in handlers:
            try:
                result = await (handler.call(event) if handler.is_async else self._in_thread(handler, event))
            except BaseException as error:  # noqa: BLE001 - the mod's own failure
                result = self._refusal(handler, error)
            if type(result) is EventResponse or isinstance(result, EventResponse):  # `type` alone is quicker
                return result, handler.name
            if isinstance(result, Event):
                event, by = result, handler.name
            elif result is not None:
                raise HandlerFailed(
                    f"handler {handler.name} returned {type(result).__name__}; expected an EventResponse, an Event or None",
                    type="TypeError", where=_definition(handler), handler=handler.name, traceback="",
                )  # fmt: skip
        return (event if by else None), by  # an event that a handler returned counts as changed

    async def observe(self, event: Event) -> list[HandlerFailed]:
        """Give ``event`` to every observer. Drop their results, return their failures."""
        return await self._each(self._observers.match(event.event_name), event)

    async def notify(self, event: Event) -> list[HandlerFailed]:
        """Give ``event`` to every matching handler. Drop their answers, return their failures."""
        return await self._each(self._asked.match(event.event_name), event)

    async def _each(self, handlers: list[Handler], event: Event) -> list[HandlerFailed]:
        failures = []
        for handler in handlers:
            try:
                await self.ask(event, [handler])
            except HandlerFailed as failure:
                failures.append(failure)
            except asyncio.CancelledError as error:
                if is_being_cancelled():
                    raise
                failures.append(self._failed(handler, error))  # it raised that itself
        return failures

    def _refusal(self, handler: Handler, error: BaseException) -> EventResponse:
        """Return the answer of a handler that refused the event; raise any other failure of it."""
        if isinstance(error, asyncio.CancelledError):  # not the handler's failure, unless it raised it itself
            raise error
        if isinstance(error, Refused):
            try:
                return EventResponse.failure(error.code, str(error), **error.details)
            except Exception as mistake:  # noqa: BLE001 - a code or details that no answer can have
                raise self._failed(handler, mistake) from None
        if isinstance(error, MemoryError):
            limits.reserve.release()  # first: reporting takes memory
            failed = self._failed(handler, error)
            traceback.clear_frames(error.__traceback__)  # it holds what the handler had collected
            limits.reserve.hold()
            raise failed from None
        # Also what is no Exception: sys.exit() or a panic of a library in Rust is the handler's
        # mistake, not the end of the mod.
        raise self._failed(handler, error) from error

    async def _in_thread(self, handler: Handler, event: Event) -> Any:
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()

        def call() -> Any:
            return context.run(_call_plain, handler, event)

        if sys.excepthook is None or threading.excepthook is None:
            _restore_hooks()
        return await loop.run_in_executor(self._executor, call)

    def _failed(self, handler: Handler, error: BaseException) -> HandlerFailed:
        told = describe(error, self._sources())
        at = f" at {told['where']}" if told["where"] else ""
        details = {
            "type": told["type"], "where": told["where"], "handler": handler.name, "traceback": told["traceback"],
        }  # fmt: skip
        if limit := _tolerant_limit_of(error):
            text = f"handler {handler.name} hit the limit {_with_value(limit)}{at}: {told['message']}"
            return HandlerFailed(text, code=Code.LIMIT_HIT, limit=limit, **details)
        return HandlerFailed(f"handler {handler.name} raised{at}: {told['message']}", **details)


_LIMIT_OF_ERRNO = {
    errno.EMFILE: "open_files",
    errno.ENFILE: "open_files",
    errno.ENOMEM: "memory",
    errno.EDQUOT: "disk",
    errno.EFBIG: "disk",
}


def _tolerant_limit_of(error: BaseException) -> str | None:
    try:
        return limit_of(error)
    except BaseException:  # noqa: BLE001 - the exception's own attributes
        return None


def limit_of(error: BaseException) -> str | None:
    """Return which of the mod's limits an exception comes from, by its name in the config, or None.

    Looks at the exception, at what it was raised ``from``, and into exception groups.
    """
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        error = waiting.pop()
        if id(error) in seen:
            continue
        seen.add(id(error))
        if found := _limit_of_one(error):
            return found
        if error.__cause__ is not None:
            waiting.append(error.__cause__)
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
    return None


def _limit_of_one(error: BaseException) -> str | None:
    match error:
        case MemoryError():
            return "memory"
        case OSError(errno=errno.EAGAIN) if _was_forking(error):
            return "processes"
        case OSError(errno=int(number)):
            return _LIMIT_OF_ERRNO.get(number)
        case RuntimeError() if str(error) == "can't start new thread":
            return "threads"
    return None


def _was_forking(error: OSError) -> bool:
    """Return whether the line that raised was forking: sockets and locks raise EAGAIN, too.

    Without the source, look at the names that its function uses.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    if not frames:
        return False
    frame, number = frames[-1]
    line = linecache.getline(frame.f_code.co_filename, number)
    return any(word in text for text in ([line] if line else frame.f_code.co_names) for word in ("fork", "spawn"))


def _with_value(limit: str) -> str:
    value = limits.applied.get(limit)
    if value is None:
        return limit
    return f"{limit} ({value / 1e6:.1f} MB)" if limit in ("memory", "disk") else f"{limit} ({value})"


def _call_plain(handler: Handler, event: Event) -> Any:
    try:
        return handler.call(event)
    except MemoryError:
        limits.reserve.release()  # as early as possible: the way back to the loop takes memory
        raise
    except StopIteration as error:  # no future can hold it: the caller would wait forever
        raise RuntimeError("handler raised StopIteration") from error


def is_being_cancelled() -> bool:
    """Return whether somebody cancels the current task. If not, the mod's code raised `CancelledError` itself."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _restore_hooks() -> None:
    """Undo a mod's ``sys.excepthook = None``, with which no thread can start."""
    sys.excepthook = sys.excepthook or sys.__excepthook__
    threading.excepthook = threading.excepthook or threading.__excepthook__


def _definition(handler: Handler) -> str:
    code = getattr(inspect.unwrap(handler.call), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else ""
