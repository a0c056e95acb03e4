"""Serve one mod on one socket: read, dispatch, reply; load, activate, hand over state, shut down.

`main` is a plain function of a connected socket, so that an exec'd interpreter and a forked process both can run it.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import ipc
from ..ipc import messages
from ..ipc.errors import Code, FrameTooLarge, ModvisorError, RemoteProtocolError, Unserializable
from ..ipc.event import Event, EventResponse
from ..ipc.manifest import Manifest
from ..ipc.messages import Hello, Notification, Request
from ..ipc.pipe import HIGH_WATER, Pipe
from ..ipc.shared_memory import has_large, is_possible
from ..ipc.spinning import Spinner
from ..mods.base import BaseMod
from ..mods.handlers import collect_handlers
from . import limits, stdio
from .context import WorkerContext, current_cause
from .crash import describe
from .dispatch import Dispatcher, HandlerFailed
from .eager import Starter
from .loader import LoadFailed, find_mod_class, sources_for
from .sources import MAX_SNAPSHOT_FILES, Sources

MAX_TELLING = 1000
"""Changes of other mods that may wait for a mod's on_dependency()."""

PATIENCE = 60e-6
"""Seconds to stay awake for the next event after one was answered, see `ipc.spinning`."""

LAST_WORDS = 1.0
"""Seconds a mod has for its shutdown() when the supervisor is gone."""


_MAY_REFUSE = {
    "initialize": "to start",
    "activate": "to start",
    "check_ready": "to serve",
    "set_state": "the state of the former incarnation",
}
"""Calls of a mod's life that may return False, and what that refuses."""

_REFUSALS = {
    "set_state": Code.STATE_REFUSED,
    "merge_state": Code.STATE_REFUSED,
    "split_state": Code.STATE_REFUSED,
    "check_ready": Code.NOT_READY,
}


def main(sock: socket.socket) -> int:
    """Serve until the supervisor says ``shutdown`` or closes the pipe; returns the exit status."""
    stdio.install()
    try:
        return asyncio.run(_serve(sock))
    finally:
        stdio.flush()


async def _serve(sock: socket.socket) -> int:
    worker = Worker(sock)
    await worker.ended.wait()
    await worker.close()
    return worker.exit_status


class Worker:
    """One mod, its pipe, and the handlers at work."""

    def __init__(self, sock: socket.socket) -> None:
        self.ended = asyncio.Event()
        self.exit_status = 0
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._given_up: set[int] = set()  # cancelled by the core
        self._starter = Starter()
        self._spinner: Spinner | None = None
        self._mod: BaseMod | None = None
        self._sources: Sources | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._dispatcher: Dispatcher | None = None
        self._shut_down = False
        self._checkpoint_every: float | None = None
        self._checkpoints: asyncio.Task[None] | None = None
        self._dependencies: deque[tuple[str, str]] = deque(maxlen=MAX_TELLING)
        self._telling: asyncio.Task[None] | None = None
        self._calls: dict[str, Callable[[dict[str, Any]], Awaitable[Any]]] = {
            messages.LOAD: self._load,
            messages.ACTIVATE: self._activate,
            messages.DEACTIVATE: self._deactivate,
            messages.OBSERVE: self._observe,
            messages.NOTIFY: self._notify,
            messages.GET_STATE: self._get_state,
            messages.SET_STATE: self._set_state,
            messages.PART: self._part,
            messages.SNAPSHOT: self._snapshot,
            messages.SHUTDOWN: self._shutdown,
        }
        self._channel = Pipe(sock, on_request=self._take, on_notification=self._note, on_close=self._pipe_ended)
        hello = Hello(messages.PROTOCOL, os.getpid(), platform.python_version(), ipc.__version__, is_possible)
        self._channel.notify(messages.HELLO, hello.to_dict())

    # -- messages

    def _take(self, request: Request) -> None:
        if request.method == messages.PING:
            self._channel.respond(request.id, None)
            return
        if request.method == messages.EVENT:
            task = self._starter.start(self._handle(request))
        else:
            self._starter.defer()
            task = asyncio.get_running_loop().create_task(self._serve_call(request))
        if task is not None:
            self._tasks[request.id] = task
            task.add_done_callback(lambda task: self._done(request, task))
        else:
            self._expect_next()

    def _done(self, request: Request, task: asyncio.Task[None]) -> None:
        if task.cancelled():  # before its first line, in which it would have seen to its answer
            self._refuse_cancelled(request)
        self._tasks.pop(request.id, None)
        self._given_up.discard(request.id)
        self._expect_next()

    def _expect_next(self) -> None:
        if self._spinner is not None and not self._tasks:
            self._spinner.expect()

    def _note(self, notification: Notification) -> None:
        self._starter.defer()
        if notification.method == messages.CANCEL:
            request_id = (notification.params or {}).get("id", -1)
            task = self._tasks.get(request_id)
            if task is not None:
                self._given_up.add(request_id)
                task.cancel()
        elif notification.method == messages.DEPENDENCY and isinstance(notification.params, dict):
            self._tell_dependency(notification.params)

    def _tell_dependency(self, params: dict[str, Any]) -> None:
        """What the core tells of other mods is handed on in order; of what a slow mod lags behind, the oldest is dropped."""
        self._dependencies.append((str(params.get("mod_id")), str(params.get("what"))))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell_dependencies())

    async def _tell_dependencies(self) -> None:
        while self._dependencies:
            try:
                await self._life_call("on_dependency", *self._dependencies.popleft())
            except ModvisorError as error:
                self._report(error)

    async def _handle(self, request: Request) -> None:
        """One event: ask the mod, answer the core."""
        current_cause.set(request.id)
        try:
            event = Event.from_dict(request.params["event"])
            answer, handler = await self._dispatching().ask(event)
            # One answer after the other: many large ones at once would pile up before the core has read the first.
            if self._channel.buffered > HIGH_WATER:
                await self._channel.writable()
            self._respond(request, answer, handler)
        except asyncio.CancelledError:
            self._refuse_cancelled(request)
        except ModvisorError as error:
            self._report(error)
            self._refuse(request, error)
        except MemoryError:  # outside of the handlers, whatever the reason
            limits.reserve.release()
            text = "the mod's process has no memory left to take or answer the event"
            self._refuse(request, ModvisorError(text, code=Code.LIMIT_HIT, limit="memory"))
            limits.reserve.hold()

    def _respond(self, request: Request, answer: EventResponse | Event | None, handler: str) -> None:
        try:
            large = isinstance(answer, EventResponse) and has_large(answer.data)
            self._channel.respond(request.id, _wire(answer), has_large=large)
        except (FrameTooLarge, Unserializable) as error:
            told = f"handler {handler} answered with what cannot be sent: {error}"
            raise HandlerFailed(told, code=error.code, handler=handler) from None

    def _refuse(self, request: Request, error: ModvisorError) -> None:
        """Answer with an error, whatever is in it: the core must not wait for an answer that cannot be sent."""
        try:
            self._channel.refuse(request.id, error.code, str(error), error.details)
        except (FrameTooLarge, Unserializable):
            self._channel.refuse(request.id, error.code, f"{_plain(error)} (its details cannot be sent)")

    def _refuse_cancelled(self, request: Request) -> None:
        if request.id in self._given_up:
            self._given_up.discard(request.id)
            self._channel.refuse(request.id, Code.TIMEOUT, "cancelled by the sender or its deadline")
        elif self.ended.is_set():
            self._channel.refuse(request.id, Code.MOD_CRASHED, "the mod ended before the event was answered")
        else:
            self._channel.refuse(request.id, Code.HANDLER_ERROR, "the handler was cancelled by the mod itself")

    async def _serve_call(self, request: Request) -> None:
        """Any other request."""
        current_cause.set(request.id)
        call = self._calls.get(request.method)
        try:
            if call is None:
                raise RemoteProtocolError(f"unknown method {request.method!r}")
            self._channel.respond(request.id, await call(request.params or {}))
            if request.method == messages.SHUTDOWN:
                await self._channel.flush()
                self.ended.set()
        except asyncio.CancelledError:
            self._refuse_cancelled(request)
        except ModvisorError as error:
            self._report(error)
            self._refuse(request, self._with_files(request, error))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the mod's own failure in one of its life's calls
            told = self._describe(error)
            stdio.say(told["traceback"])
            at = f" at {told['where']}" if told["where"] else ""
            text = f"{request.method} failed{at}: {told['message']}"
            failed = ModvisorError(text, code=Code.INITIALIZE_FAILED, where=told["where"], traceback=told["traceback"])
            self._refuse(request, self._with_files(request, failed))

    def _with_files(self, request: Request, error: ModvisorError) -> ModvisorError:
        """A start that failed tells what it has read: to mend one of these is what may help."""
        if request.method in (messages.LOAD, messages.ACTIVATE):
            error.details["files"] = sorted(self._own_files())[:MAX_SNAPSHOT_FILES]
        return error

    def _report(self, error: ModvisorError) -> None:
        """Errors are answered to the core and stand in the mod's own log, where its author looks."""
        stdio.say(error.details.get("traceback") or f"ERROR {error}")

    # -- the mod's life

    async def _load(self, params: dict[str, Any]) -> dict[str, Any]:
        os.environ.update(params.get("env") or {})
        enforced = limits.apply(params.get("limits") or {})
        sys.path[:] = [
            *params.get("sys_path", ()),
            *(entry for entry in sys.path if entry not in params.get("sys_path", ())),
        ]
        mod_path, mod_id = params["mod_path"], params["mod_id"]
        self._sources = sources_for(mod_path, params.get("folder"), params.get("snapshot"), params.get("compiled"))
        self._sources.install()
        cls = find_mod_class(mod_path, self._sources)
        if (declared := params.get("version")) is not None and not _has_version(cls):
            cls.version = declared
        mod = self._instantiate(cls, mod_id)
        mod.config = params.get("config") or {}
        mod.context = WorkerContext(
            self._channel,
            mod_id,
            params["network_name"],
            Path(params["storage_path"]),
            version=str(cls.version),
            replica=params.get("replica"),
        )
        concurrency = params.get("concurrency", 64)
        self._executor = ThreadPoolExecutor(
            max_workers=concurrency, thread_name_prefix="handler", initializer=limits.allow_stack
        )
        self._dispatcher = Dispatcher(collect_handlers(mod), self._executor, self._own_files)
        self._mod = mod
        self._checkpoint_every = params.get("checkpoint_every")
        if params.get("shelf"):
            self._channel.lend()
        if params.get("polling"):
            self._spinner = Spinner(PATIENCE)
            self._channel.spin_with(self._spinner)
        await self._life_call("initialize")
        return Manifest(
            mod_class=f"{cls.__module__}:{cls.__qualname__}",
            version=str(cls.version),
            description=str(cls.description),
            patterns=self._dispatcher.patterns,
            observes=self._dispatcher.observes,
            file=getattr(sys.modules.get(cls.__module__), "__file__", None) or "",
            resumable=cls.activate is BaseMod.activate or cls.deactivate is not BaseMod.deactivate,
            enforced=enforced,
        ).to_dict()

    def _instantiate(self, cls: type[BaseMod], mod_id: str) -> BaseMod:
        try:
            return cls()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the constructor is the mod's code
            told = self._describe(error)
            at = f" at {told['where']}" if told["where"] else ""
            raise LoadFailed(
                f"mod {mod_id}: {cls.__qualname__}() failed{at}: {told['message']} (the constructor takes no arguments)",
                code=Code.INITIALIZE_FAILED, where=told["where"], traceback=told["traceback"],
            ) from None  # fmt: skip

    async def _activate(self, _params: dict[str, Any]) -> None:
        await self._life_call("activate")
        await self._life_call("check_ready")
        if self._checkpoint_every is not None:
            self._checkpoints = asyncio.get_running_loop().create_task(self._keep_state(self._checkpoint_every))

    async def _deactivate(self, _params: dict[str, Any]) -> None:
        self._stop_checkpoints()
        await self._life_call("deactivate")

    async def _keep_state(self, every: float) -> None:
        """Hand what the mod's get_state() returns to the core, ever again; a failure is told, and the next one tried."""
        assert self._mod is not None
        while True:
            await asyncio.sleep(every)
            try:
                await self._mod.context.checkpoint(await self._life_call("get_state"))
            except (ModvisorError, TimeoutError) as error:
                self._report(
                    error if isinstance(error, ModvisorError) else ModvisorError("the checkpoint took too long")
                )

    async def _life_call(self, name: str, *args: Any) -> Any:
        """Call a method of the mod's life, plain or coroutine; False or an exception refuses."""
        assert self._mod is not None
        where = f"{type(self._mod).__qualname__}.{name}"
        try:
            result = getattr(self._mod, name)(*args)
            if asyncio.iscoroutine(result):
                result = await result
        except asyncio.CancelledError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the mod's own failure, answered with its place
            told = self._describe(error)
            at = f" at {told['where']}" if told["where"] else ""
            raise LoadFailed(
                f"{where}() raised{at}: {told['message']}",
                code=_REFUSALS.get(name, Code.INITIALIZE_FAILED),
                where=told["where"], traceback=told["traceback"],
            ) from None  # fmt: skip
        if result is False and name in _MAY_REFUSE:
            refused = _REFUSALS.get(name, Code.INITIALIZE_FAILED)
            raise LoadFailed(f"{where}() returned False: the mod refuses {_MAY_REFUSE[name]}", code=refused)
        return result

    async def _get_state(self, _params: dict[str, Any]) -> dict[str, Any]:
        assert self._mod is not None
        return {"state": await self._life_call("get_state"), "version": str(type(self._mod).version)}

    async def _set_state(self, params: dict[str, Any]) -> None:
        await self._life_call("set_state", params.get("state"), params.get("from_version", ""))

    async def _part(self, params: dict[str, Any]) -> list[Any]:
        """The states of the former workers, parted anew."""
        merged = await self._life_call("merge_state", params["states"], params.get("from_version", ""))
        return list(await self._life_call("split_state", merged, params["count"]))

    async def _snapshot(self, _params: dict[str, Any]) -> dict[str, Any]:
        assert self._sources is not None
        try:
            return self._sources.snapshot()
        except (OSError, ValueError) as error:
            raise ModvisorError(f"the mod's sources cannot be kept: {error}", code=Code.TOO_LARGE) from None

    async def _shutdown(self, _params: dict[str, Any]) -> None:
        self._shut_down = True
        self._stop_checkpoints()
        self._stop_telling()
        if self._mod is not None:
            await self._life_call("shutdown")

    def _stop_checkpoints(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.cancel()

    def _stop_telling(self) -> None:
        self._dependencies.clear()
        if self._telling is not None:
            self._telling.cancel()

    # -- copies

    async def _observe(self, params: dict[str, Any]) -> dict[str, int]:
        return await self._copies(params, self._dispatching().observe)

    async def _notify(self, params: dict[str, Any]) -> dict[str, int]:
        return await self._copies(params, self._dispatching().notify)

    async def _copies(
        self, params: dict[str, Any], give: Callable[[Event], Awaitable[list[HandlerFailed]]]
    ) -> dict[str, int]:
        failed, batch = 0, current_cause.get()
        for index, data in enumerate(params.get("events", ())):
            current_cause.set([batch, index] if isinstance(batch, int) else None)
            failures = await give(Event.from_dict(data))
            for failure in failures:
                self._report(failure)
            failed += len(failures)
        return {"failed": failed}

    # -- the end

    def _pipe_ended(self, _reason: ModvisorError) -> None:
        if not self._shut_down:  # nobody asked for that: it is no clean end
            self.exit_status = 1
        self.ended.set()

    async def close(self) -> None:
        """Cancel what is still running; a mod that was not asked to shut down (the supervisor is gone) is asked now."""
        if self._channel.closed is not None:  # whatever hangs from here on: nobody is left to kill us
            orphan = threading.Timer(2 * LAST_WORDS, os._exit, (1,))
            orphan.daemon = True
            orphan.start()
        self._stop_checkpoints()
        self._stop_telling()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._mod is not None and not self._shut_down:
            with suppress(ModvisorError, TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await self._life_call("shutdown")
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
        self._channel.close()

    # -- helpers

    def _dispatching(self) -> Dispatcher:
        if self._dispatcher is None:
            raise RemoteProtocolError("an event came before 'load'")
        return self._dispatcher

    def _own_files(self) -> dict[str, bytes]:
        return self._sources.files if self._sources is not None else {}

    def _describe(self, error: BaseException) -> dict[str, Any]:
        return describe(error, self._own_files())


def _plain(error: Exception) -> str:
    return str(error).encode("utf-8", "backslashreplace").decode()


def _has_version(cls: type[BaseMod]) -> bool:
    """Whether a mod's class says which version it is; else its mod.yaml does."""
    return any("version" in vars(each) for each in cls.__mro__ if each is not BaseMod)


def _wire(answer: EventResponse | Event | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {"response" if isinstance(answer, EventResponse) else "event": answer.to_dict()}
