"""The life of the one mod of a worker: load, activate, state, shutdown.

`serve` calls these when the core asks for them. A mod's own mistake in one of them becomes a
`LoadFailed`, which names the call and the place in the mod's code.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgpack

from ..ipc import messages
from ..ipc.config_schema import WrongConfig, check_config
from ..ipc.errors import Code, ModvisorError, RemoteProtocolError
from ..ipc.manifest import Manifest
from ..ipc.messages import Notification
from ..ipc.pipe import Pipe
from ..ipc.spinning import Spinner
from ..mods.base import BaseMod
from . import limits, marking, pool_child, stdio
from .confining import confined
from .context import WorkerContext
from .crash import describe
from .dispatch import Dispatcher, is_being_cancelled
from .hosts import Host, Place, kind_of
from .loader import LoadFailed, find_mod_class, sources_for
from .sources import Sources

MAX_NEWS = 1000
"""News of other mods that may wait for a mod's on_dependency(); of more, the oldest are dropped."""

PATIENCE = 60e-6
"""Seconds to stay awake for the next event after one is answered, see `ipc.spinning`."""

_MAY_REFUSE = {
    "initialize": "to start",
    "activate": "to start",
    "check_ready": "to serve",
    "set_state": "the state of the previous incarnation",
}
"""Methods that may return False, and what the mod refuses by that."""

_CODES = {
    "set_state": Code.STATE_REFUSED,
    "merge_state": Code.STATE_REFUSED,
    "split_state": Code.STATE_REFUSED,
    "check_ready": Code.NOT_READY,
}
"""Codes of a failure of these methods; of the others it is `INITIALIZE_FAILED`."""

Call = Callable[[dict[str, Any]], Awaitable[Any]]


class Life:
    """One mod, from its load to its shutdown."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._mod: BaseMod | None = None
        self._host: Host | None = None
        self._sources: Sources | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._dispatcher: Dispatcher | None = None
        self._checkpoint_every: float | None = None
        self._checkpoints: asyncio.Task[None] | None = None
        self._news: deque[tuple[str, str]] = deque(maxlen=MAX_NEWS)
        self._telling: asyncio.Task[None] | None = None
        self.spinner: Spinner | None = None
        self._is_closing = False
        self.is_shut_down = False
        """The core asked for the shutdown."""
        self.calls: dict[str, Call] = {
            messages.LOAD: self._load,
            messages.ACTIVATE: self._activate,
            messages.DEACTIVATE: self._deactivate,
            messages.GET_STATE: self._get_state,
            messages.SHOW_STATE: self._show_state,
            messages.SET_STATE: self._set_state,
            messages.PART: self._part,
            messages.SNAPSHOT: self._snapshot,
            messages.SHUTDOWN: self._shutdown,
        }
        """The requests of the core by method."""

    def dispatcher(self) -> Dispatcher:
        """Return the dispatcher of the mod. Raise `RemoteProtocolError` if none is loaded."""
        if self._dispatcher is None:
            raise RemoteProtocolError("an event came before 'load'")
        return self._dispatcher

    def own_files(self) -> dict[str, bytes]:
        """Return file name and source of the mod's own modules, as they were compiled."""
        return self._sources.files if self._sources is not None else {}

    def failed(self, what: str, error: BaseException, code: str = Code.INITIALIZE_FAILED, note: str = "") -> LoadFailed:
        """Return a failure that says what failed, where in the mod's code, and why."""
        told = describe(error, self.own_files())
        at = f" at {told['where']}" if told["where"] else ""
        text = f"{what}{at}: {told['message']}{note}"
        return LoadFailed(text, code=code, where=told["where"], traceback=told["traceback"])

    async def call(self, name: str, *args: Any) -> Any:
        """Call one of the mod's own methods, plain or coroutine.

        Raises:
            LoadFailed: it raised, or it returned False and may refuse by that.
        """
        assert self._mod is not None
        where = f"{type(self._mod).__qualname__}.{name}"
        try:
            result = getattr(self._mod, name)(*args)
            if asyncio.iscoroutine(result):
                result = await result
        except LoadFailed:  # of a step that its host names better
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            raise self.failed(f"{where}() raised", error, _CODES.get(name, Code.INITIALIZE_FAILED)) from None
        if result is False and name in _MAY_REFUSE:
            text = f"{where}() returned False: the mod refuses {_MAY_REFUSE[name]}"
            raise LoadFailed(text, code=_CODES.get(name, Code.INITIALIZE_FAILED))
        return result

    # -- load

    async def _load(self, params: dict[str, Any]) -> dict[str, Any]:
        """Import the mod, instantiate and configure it, and call its initialize()."""
        os.environ.update(params.get("env") or {})
        asked = params.get("limits", {})
        enforced = {} if asked is None else limits.apply(asked)  # None: in a rehearsal they would be the guardian's
        if (cell := params.get("cell")) is not None:
            self._pipe.notify(messages.CONFINED, {"cell": confined(cell)})
        if (mark := params.get("mark")) is not None:  # a cell shows the file: before that, it may be hidden
            marking.install(mark, params.get("network_pid", -1))
        _prepend_to_path(params.get("sys_path", ()))
        found = self._find_class(params)
        _check_config(
            params.get("config") or {}, {"mod.yaml": params.get("config_schema"), found.__qualname__: _schema_of(found)}
        )
        host = self._host = self._host_of(found, params)
        mod = self._make(host, params["mod_id"])
        self._executor = ThreadPoolExecutor(
            max_workers=params.get("concurrency", 64),
            thread_name_prefix="handler",
            initializer=limits.allow_stack,
        )
        self._dispatcher = Dispatcher(host.handlers(), self._executor, self.own_files)
        self._mod = mod
        self._checkpoint_every = params.get("checkpoint_every")
        if params.get("shelf"):
            self._pipe.lend()
        if params.get("polling"):
            self.spinner = Spinner(PATIENCE)
            self._pipe.spin_with(self.spinner)
        await self.call("initialize")
        return _manifest(host, self._dispatcher, enforced).to_dict()

    def _find_class(self, params: dict[str, Any]) -> type:
        mod_path = params["mod_path"]
        self._sources = sources_for(mod_path, params.get("folder"), params.get("snapshot"), params.get("compiled"))
        self._sources.install()
        packer = os.path.dirname(os.path.dirname(msgpack.__file__))
        os.environ[pool_child.VARIABLE] = json.dumps([self._sources.package, self._sources.folder, packer])
        return find_mod_class(mod_path, self._sources)

    def _host_of(self, found: type, params: dict[str, Any]) -> Host:
        context = self._context(params)
        place = Place(
            self._pipe,
            params["mod_path"],
            params.get("network_id") or params["network_name"],
            params.get("config") or {},
            context,
            self.failed,
        )
        host = kind_of(found)(found, place)
        cls = host.mod_class
        if (declared := params.get("version")) is not None and not _has_version(cls):
            cls.version = declared
        context.version = str(cls.version)
        return host

    def _make(self, host: Host, mod_id: str) -> BaseMod:
        try:
            return host.make()
        except BaseException as error:  # noqa: BLE001 - the constructor is the mod's code
            what = f"mod {mod_id}: {host.mod_class.__qualname__}() failed"
            raise self.failed(what, error, note=" (the constructor takes no arguments)") from None

    def _context(self, params: dict[str, Any]) -> WorkerContext:
        return WorkerContext(
            self._pipe,
            params["mod_id"],
            params["network_name"],
            Path(params["storage_path"]),
            replica=params.get("replica"),
            fencing_token=params.get("fencing_token", 0),
        )

    def note(self, notification: Notification) -> None:
        """Take a notification of the core: news of a mod, or what the mod's host asked to be told."""
        params = notification.params
        if notification.method == messages.DEPENDENCY and isinstance(params, dict):
            self.tell_news(str(params.get("mod_id")), str(params.get("what")))
        elif self._host is not None:
            self._host.note(notification)

    # -- activate

    async def _activate(self, _params: dict[str, Any]) -> None:
        await self.call("activate")
        await self.call("check_ready")
        if self._checkpoint_every is not None:
            self._checkpoints = asyncio.get_running_loop().create_task(self._save_state(self._checkpoint_every))

    async def _deactivate(self, _params: dict[str, Any]) -> None:
        self._stop_checkpoints()
        await self.call("deactivate")

    async def _save_state(self, every: float) -> None:
        """Checkpoint the mod's get_state() periodically. Report a failure and go on."""
        assert self._mod is not None
        while True:
            await asyncio.sleep(every)
            try:
                await self._mod.context.checkpoint(await self.call("get_state"))
            except ModvisorError as error:
                stdio.report(error)
            except TimeoutError:
                stdio.report(ModvisorError("the checkpoint took too long"))

    def _stop_checkpoints(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.cancel()

    # -- news of other mods

    def tell_news(self, mod_id: str, what: str) -> None:
        """Tell the mod in order what became of the mods that it requires or uses."""
        self._news.append((mod_id, what))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())

    async def _tell_all(self) -> None:
        while self._news:
            try:
                await self.call("on_dependency", *self._news.popleft())
            except ModvisorError as error:
                stdio.report(error)

    def _stop_telling(self) -> None:
        self._news.clear()
        if self._telling is not None:
            self._telling.cancel()

    # -- state and sources

    async def _get_state(self, _params: dict[str, Any]) -> dict[str, Any]:
        assert self._mod is not None
        return {"state": await self.call("get_state"), "version": str(type(self._mod).version)}

    async def _show_state(self, _params: dict[str, Any]) -> Any:
        """Return what get_state() says. A mod whose state is bytes for its next process has show_state() for that."""
        return await self.call("show_state" if hasattr(self._mod, "show_state") else "get_state")

    async def _set_state(self, params: dict[str, Any]) -> None:
        await self.call("set_state", params.get("state"), params.get("from_version", ""))

    async def _part(self, params: dict[str, Any]) -> list[Any]:
        """Merge the states of the previous workers, and split the result among the new ones."""
        merged = await self.call("merge_state", params["states"], params.get("from_version", ""))
        return list(await self.call("split_state", merged, params["count"]))

    async def _snapshot(self, _params: dict[str, Any]) -> dict[str, Any]:
        assert self._sources is not None
        try:
            return self._sources.snapshot()
        except (OSError, ValueError) as error:
            raise ModvisorError(f"the mod's sources cannot be kept: {error}", code=Code.TOO_LARGE) from None

    # -- shutdown

    async def _shutdown(self, _params: dict[str, Any]) -> None:
        self.is_shut_down = True
        self.stop()
        if self._mod is not None:
            await self.call("shutdown")

    def stop(self) -> None:
        """Stop the tasks beside the handlers: checkpoints and news."""
        self._stop_checkpoints()
        self._stop_telling()

    async def close(self, patience: float) -> None:
        """End the mod; if the core has not asked for its shutdown(), call that now.

        Args:
            patience: seconds that the shutdown() may take.
        """
        if self._mod is not None and not self.is_shut_down and not self._is_closing:
            self._is_closing = True
            with suppress(ModvisorError, TimeoutError):
                async with asyncio.timeout(patience):
                    await self.call("shutdown")
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)


def _prepend_to_path(folders: Iterable[str]) -> None:
    sys.path[:] = [*folders, *(entry for entry in sys.path if entry not in folders)]


def _schema_of(cls: type) -> Any:
    return getattr(cls, "config_schema", None)


def _check_config(config: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Check the config by each schema that is declared; raises `LoadFailed`."""
    for where, schema in schemas.items():
        try:
            if schema is not None:
                check_config(config, schema, where)
        except WrongConfig as error:
            raise LoadFailed(str(error), code=error.code, **error.details) from None


def _has_version(cls: type[BaseMod]) -> bool:
    """Return whether a mod's class names its version. If not, its mod.yaml does."""
    return any("version" in vars(each) for each in cls.__mro__ if each is not BaseMod)


_OF_ONE_PROCESS = (
    "activate", "deactivate", "get_state", "set_state", "merge_state", "split_state", "on_dependency",
)  # fmt: skip
"""A mod that overrides one of these holds something that only one process has, or hears of changes."""


def is_side_by_side(cls: type[BaseMod], patterns: Iterable[str], observes: Iterable[str]) -> bool:
    """Return whether a second process of the mod answers as the first one does.

    Observers and notifications of the network go to one process, and are remembered there.
    """
    if any(getattr(cls, name) is not getattr(BaseMod, name) for name in _OF_ONE_PROCESS):
        return False
    return not any(observes) and not any(pattern.startswith("system.") for pattern in patterns)


def _manifest(host: Host, dispatcher: Dispatcher, enforced: dict[str, str]) -> Manifest:
    cls, patterns = host.mod_class, host.patterns()
    return Manifest(
        mod_class=f"{cls.__module__}:{cls.__qualname__}",
        version=str(cls.version),
        description=str(cls.description),
        patterns=patterns,
        observes=dispatcher.observes,
        file=getattr(sys.modules.get(cls.__module__), "__file__", None) or "",
        resumable=cls.activate is BaseMod.activate or cls.deactivate is not BaseMod.deactivate,
        side_by_side=is_side_by_side(cls, patterns, dispatcher.observes),
        enforced=enforced,
        host=host.framework,
    )
