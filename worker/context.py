"""The worker's side of `ModContext`: each question goes over the pipe, and the core answers it."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from ..ipc.address import MOD
from ..ipc.errors import RequestFailed
from ..ipc.event import Event, EventResponse
from ..ipc.messages import CHECKPOINT, FILES, QUERY, SEND_EVENT
from ..ipc.pipe import Pipe

T = TypeVar("T")

MAX_SENDING = 256
"""Events that one mod may be sending. A loop that emits without end waits here, and does not fill
the supervisor's memory."""

Cause = int | list[int] | None

current_cause: ContextVar[Cause] = ContextVar("current_cause", default=None)
"""The id of the request whose handler is running; for a batch of copies, a list with the index too.
The core knows the event of that request. It links to it what the handler sends, and what tasks that
the handler leaves behind send."""


class Files(ABC):
    """What the files of a worker and those of a test share. See `modvisor.mods.ModFiles`."""

    def __init__(self, check_loop: Callable[[str], None]) -> None:
        self._check_loop = check_loop

    async def put(self, name: str, data: bytes) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"context.files.put({name!r}, …): expected bytes, got {type(data).__name__}")
        await self._ask("put", name=name, data=bytes(data))

    async def get(self, name: str) -> bytes | None:
        return await self._ask("get", name=name)

    async def list(self, prefix: str = "") -> list[str]:
        return [name for name in await self._ask("list") if name.startswith(prefix)]

    async def drop(self, name: str) -> bool:
        return await self._ask("drop", name=name)

    async def _ask(self, do: str, **params: Any) -> Any:
        self._check_loop(f"files.{do}")
        return await self._answer({"do": do, **params})

    @abstractmethod
    async def _answer(self, params: dict[str, Any]) -> Any:
        """Return what comes of a request `messages.FILES`."""


class WorkerFiles(Files):
    """The files of a mod, which the core keeps."""

    def __init__(self, pipe: Pipe, check_loop: Callable[[str], None]) -> None:
        super().__init__(check_loop)
        self._pipe = pipe

    async def _answer(self, params: dict[str, Any]) -> Any:
        return await self._pipe.request(FILES, params)


class CommonContext(ABC):
    """What the context of a worker and the context of a test (`worker.testing`) share."""

    def __init__(self, mod_id: str, network_name: str, storage_path: Path, replica: int | None = None) -> None:
        self.fencing_token = 0
        self._loop = asyncio.get_running_loop()
        self.mod_id = mod_id
        self.replica = replica
        self.network_name = network_name
        self.storage_path = storage_path
        self.log = logging.getLogger(mod_id)

    @abstractmethod
    async def send_event(self, event: Event, timeout: float | None = None) -> EventResponse:
        """Send an event into the network, and return its response."""

    async def request(
        self, mod: str, event_name: str, payload: dict[str, Any] | None = None, timeout: float | None = None
    ) -> EventResponse:
        destination = mod if mod.startswith(f"{MOD}:") else f"{MOD}:{mod}"
        return await self.send_event(Event(event_name, destination_id=destination, payload=payload or {}), timeout)

    async def checkpoint(self, state: Any) -> None:
        if state is not None:
            await self._save(state)

    @abstractmethod
    async def _save(self, state: Any) -> None:
        """Keep a state for the next process of the mod."""

    def _check_loop(self, what: str) -> None:
        """Raise RuntimeError on another loop: the pipe belongs to the loop of the mod, and to its thread."""
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"{what}() was awaited on another event loop than the mod's, with asyncio.run() or in a thread; "
                f"call it there as self.context.run_from_thread(self.context.{what}(...))"
            )

    def run_from_thread(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            coroutine.close()
            raise RuntimeError("run_from_thread() was called on the event loop's own thread; use 'await' there instead")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class WorkerContext(CommonContext):
    """Implements `modvisor.mods.ModContext` on a pipe."""

    def __init__(
        self,
        pipe: Pipe,
        mod_id: str,
        network_name: str,
        storage_path: Path,
        version: str = "0.0.0",
        replica: int | None = None,
        fencing_token: int = 0,
    ) -> None:
        super().__init__(mod_id, network_name, storage_path, replica)
        self.fencing_token = fencing_token
        self.files = WorkerFiles(pipe, self._check_loop)
        self.version = version  # of the mod, of which its checkpoints are
        self._pipe = pipe
        self._sending = asyncio.Semaphore(MAX_SENDING)

    async def send_event(self, event: Event, timeout: float | None = None) -> EventResponse:
        self._check_loop("send_event")
        data = event.to_dict()
        if timeout is not None:
            data["timeout"] = timeout
        async with self._sending:
            try:
                answer = await self._pipe.ask(SEND_EVENT, {"event": data, "cause": current_cause.get()})
            except RequestFailed as error:
                return EventResponse.failure(error.code, str(error), **error.details)
        return answer if type(answer) is EventResponse else EventResponse.from_dict(answer)

    async def _save(self, state: Any) -> None:
        self._check_loop("checkpoint")
        await self._pipe.request(CHECKPOINT, {"state": state, "version": self.version})

    async def agents(self) -> list[dict[str, Any]]:
        return await self._query("agents")

    async def channels(self) -> list[str]:
        return await self._query("channels")

    async def channel_members(self, channel: str) -> list[str]:
        return await self._query("members", channel=channel)

    async def groups(self) -> dict[str, list[str]]:
        return await self._query("groups")

    async def _query(self, what: str, **params: Any) -> Any:
        self._check_loop("channel_members" if what == "members" else what)
        return await self._pipe.request(QUERY, {"what": what, **params})
