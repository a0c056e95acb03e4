"""Serve one mod on one socket: read, hand to the mod, answer.

`main` is a plain function of a connected socket, so that a worker with an interpreter of its own
and a forked worker can both run it.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from .. import ipc
from ..ipc import messages
from ..ipc.errors import Code, FrameTooLarge, LocalProtocolError, ModvisorError, RemoteProtocolError, Unserializable
from ..ipc.event import Event
from ..ipc.messages import Hello, Notification, Request
from ..ipc.pipe import HIGH_WATER, Pipe
from ..ipc.shared_memory import is_possible
from ..ipc.usual import Asked
from . import limits, marking, pool_child, stdio
from .context import current_cause
from .crash import MAX_MESSAGE
from .dispatch import HandlerFailed
from .eager import Starter
from .endings import keep, name_threads
from .life import Call, Life
from .running import WorkerLoop, run, surely
from .sources import MAX_SNAPSHOT_FILES

LAST_WORDS = 1.0
"""Seconds that a mod has for its shutdown() when the supervisor is gone."""


def main(sock: socket.socket) -> int:
    """Serve until the supervisor says ``shutdown`` or closes the pipe. Return the exit status."""
    stdio.install()
    _be_the_main_module()
    try:
        return run(_serve(sock))
    finally:
        stdio.flush()
        name_threads()


async def _serve(sock: socket.socket) -> int:
    worker = Worker(sock)
    keep(worker)
    await surely(worker.ended.wait)
    await surely(worker.close)
    return worker.exit_status


class Worker:
    """The pipe of a worker, and the tasks that handle what comes over it."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended = asyncio.Event()
        self.exit_status = 0
        self._is_closing = False
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._cancelled: set[int] = set()  # ids of requests that the core has cancelled
        self._starter = Starter()
        if isinstance(self._loop, WorkerLoop):
            self._loop.on_nested = self._starter.begin_later
        self._pipe = Pipe(
            sock, on_request=self._take, on_notification=self._note, on_close=self._pipe_ended, takes_events=True
        )
        self._life = Life(self._pipe)
        self._calls: dict[str, Call] = {
            **self._life.calls,
            messages.OBSERVE: self._observe,
            messages.NOTIFY: self._notify,
        }
        hello = Hello(messages.PROTOCOL, os.getpid(), platform.python_version(), ipc.__version__, is_possible)
        self._pipe.notify(messages.HELLO, hello.to_dict())

    # -- reading

    def _take(self, request: Request) -> None:
        try:
            if request.method == messages.EVENT:
                task = self._starter.start(self._handle(request))
            elif request.method == messages.PING:
                return self._pipe.respond(request.id, None)
            else:
                self._starter.defer()
                task = self._loop.create_task(self._serve_call(request))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the requests behind this one are innocent
            return self._refuse_failed(request, error)
        if task is not None:
            self._tasks[request.id] = task
            task.add_done_callback(lambda task: self._done(request, task))
        return None

    def _done(self, request: Request, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first line: later, it answers a cancellation itself
            self._refuse_cancelled(request)
        self._tasks.pop(request.id, None)
        self._cancelled.discard(request.id)
        if self._life.spinner is not None and not self._tasks:
            self._life.spinner.expect()

    def _note(self, notification: Notification) -> None:
        self._starter.defer()
        if notification.method != messages.CANCEL:
            return self._life.note(notification)
        request_id = (notification.params or {}).get("id", -1)
        task = self._tasks.get(request_id)
        if task is not None:
            self._cancelled.add(request_id)
            task.cancel()
        return None

    # -- events

    async def _handle(self, request: Request) -> None:
        """Handle one event: ask the mod, answer the core."""
        current_cause.set(request.id)
        marking.begin(request.id)
        try:
            params = request.params
            event = params.event if type(params) is Asked else Event.from_dict((params or {}).get("event"))
            answer, handler = await self._life.dispatcher().ask(event)
            pipe = self._pipe
            # One after the other: many large answers would pile up before the core reads the first.
            if pipe.buffered > HIGH_WATER:
                await pipe.writable()
            try:
                pipe.answer(request.id, answer)
            except (FrameTooLarge, Unserializable) as error:
                told = f"handler {handler} answered with what cannot be sent: {error}"
                raise HandlerFailed(told, code=error.code, handler=handler) from None
        except asyncio.CancelledError:
            self._refuse_cancelled(request)
        except ModvisorError as error:
            stdio.report(error)
            self._refuse(request, error)
        except MemoryError:  # outside of the handlers
            limits.reserve.release()
            text = "the mod's process has no memory left to take or answer the event"
            self._refuse(request, ModvisorError(text, code=Code.LIMIT_HIT, limit="memory"))
            limits.reserve.hold()
        except BaseException as error:  # noqa: BLE001 - an answer of a class that cannot be read, say
            self._refuse_failed(request, error)

    async def _observe(self, params: dict[str, Any]) -> dict[str, int]:
        return await self._give_each(params, self._life.dispatcher().observe)

    async def _notify(self, params: dict[str, Any]) -> dict[str, int]:
        return await self._give_each(params, self._life.dispatcher().notify)

    async def _give_each(
        self, params: dict[str, Any], give: Callable[[Event], Awaitable[list[HandlerFailed]]]
    ) -> dict[str, int]:
        """Give each event of a batch to the handlers. Report failures, and return their count."""
        failed, batch = 0, current_cause.get()
        for index, data in enumerate(params.get("events", ())):
            current_cause.set([batch, index] if isinstance(batch, int) else None)
            try:
                failures = await give(Event.from_dict(data))
            except asyncio.CancelledError:
                if not self._is_own_cancellation(batch):
                    raise
                failures = [HandlerFailed("an observer was cancelled by the mod itself")]
            for failure in failures:
                stdio.report(failure)
            failed += len(failures)
        return {"failed": failed}

    def _is_own_cancellation(self, request_id: Any) -> bool:
        """Return whether the mod cancelled the current task, not the core. Undo that cancellation."""
        task = asyncio.current_task()
        if task is None or self.ended.is_set() or request_id in self._cancelled:
            return False
        task.uncancel()
        return True

    # -- other requests

    async def _serve_call(self, request: Request) -> None:
        current_cause.set(request.id)
        marking.begin(request.id)
        call = self._calls.get(request.method)
        try:
            if call is None:
                raise RemoteProtocolError(f"unknown method {request.method!r}")
            self._pipe.respond(request.id, await call(request.params or {}))
            if hasattr(self._loop, "_nest_patched"):  # by nest_asyncio
                self._starter.begin_later()
        except asyncio.CancelledError:
            self._refuse_cancelled(request)
        except ModvisorError as error:
            self._fail_call(request, error)
        except BaseException as error:  # noqa: BLE001 - the mod's own failure
            self._fail_call(request, self._life.failed(f"{request.method} failed", error))
        if (
            request.method == messages.SHUTDOWN
        ):  # also if it failed: files are still to be written, exit handlers to run
            await self._pipe.flush()
            self.ended.set()

    def _fail_call(self, request: Request, error: ModvisorError) -> None:
        stdio.report(error)
        if request.method in (messages.LOAD, messages.ACTIVATE):  # editing these files may help
            error.details["files"] = sorted(self._life.own_files())[:MAX_SNAPSHOT_FILES]
        self._refuse(request, error)

    # -- refusing

    def _refuse(self, request: Request, error: ModvisorError) -> None:
        """Answer with an error; leave out details that cannot be sent, since an answer is owed."""
        try:
            self._pipe.refuse(request.id, error.code, str(error), error.details)
        except BaseException:  # noqa: BLE001 - too large, or with objects of the mod that fail
            with suppress(LocalProtocolError):  # answered already
                self._pipe.refuse(request.id, error.code, f"{_plain(error)} (its details cannot be sent)")

    def _refuse_failed(self, request: Request, error: BaseException) -> None:
        """Answer a request that failed in a way of which nothing else is known."""
        failure = self._life.failed(f"{request.method} failed", error, Code.HANDLER_ERROR)
        stdio.report(failure)
        self._refuse(request, failure)

    def _refuse_cancelled(self, request: Request) -> None:
        if request.id in self._cancelled:
            self._cancelled.discard(request.id)
            self._pipe.refuse(request.id, Code.TIMEOUT, "cancelled by the sender or its deadline")
        elif self.ended.is_set():
            self._pipe.refuse(request.id, Code.MOD_UNLOADED, "the mod was unloaded before the event was answered")
        else:
            what = "the handler" if request.method == messages.EVENT else request.method
            self._pipe.refuse(request.id, Code.HANDLER_ERROR, f"{what} was cancelled by the mod itself")

    # -- the end

    def _pipe_ended(self, _reason: ModvisorError) -> None:
        if not self._life.is_shut_down:  # the core did not ask for this end
            self.exit_status = 1
        self.ended.set()

    async def close(self) -> None:
        """Cancel the running tasks, end the mod, close the pipe. May be called again if cancelled."""
        if self._pipe.closed is not None and not self._is_closing:  # no supervisor is left to kill a mod that hangs
            orphan = threading.Timer(2 * LAST_WORDS, os._exit, (1,))
            orphan.daemon = True
            orphan.start()
        self._is_closing = True
        self._life.stop()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        await self._life.close(LAST_WORDS)
        self._pipe.close()


def _be_the_main_module() -> None:
    """Have `multiprocessing` run `pool_child` in the processes that the mod starts, not a worker's program."""
    module = sys.modules["__main__"]
    module.__spec__, module.__file__ = None, pool_child.__file__


def _plain(error: Exception) -> str:
    return str(error)[:MAX_MESSAGE].encode("utf-8", "backslashreplace").decode()
