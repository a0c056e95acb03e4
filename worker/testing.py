"""For the tests of a mod: the real dispatch, the real serialisation, and a context that records.

async def test_pages(tmp_path):
    async with ModHarness(WikiMod, storage_path=tmp_path) as wiki:
        response = await wiki.send("wiki.page.create", {"title": "Home"}, source_id="alice")
        assert response.success
        assert [event.event_name for event in wiki.sent] == ["wiki.page.created"]
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

from ..ipc.config_schema import check_config
from ..ipc.event import Event, EventResponse
from ..ipc.file_name import checked_file_name
from ..ipc.messages import pack, unpack
from ..mods.base import BaseMod
from ..mods.handlers import collect_handlers
from .context import CommonContext, Files
from .dispatch import Dispatcher

M = TypeVar("M", bound=BaseMod)


class MemoryFiles(Files):
    """The files of a mod under test.

    Attributes:
        kept: by name. A test may put files there before, and look at them afterwards.
    """

    def __init__(self, check_loop: Callable[[str], None]) -> None:
        super().__init__(check_loop)
        self.kept: dict[str, bytes] = {}

    async def _answer(self, params: dict[str, Any]) -> Any:
        if params["do"] == "list":
            return sorted(self.kept)
        name = checked_file_name(params["name"])
        match params["do"]:
            case "put":
                self.kept[name] = params["data"]
            case "drop":
                return self.kept.pop(name, None) is not None
            case _:
                return self.kept.get(name)
        return None


class RecordingContext(CommonContext):
    """A `ModContext` without a network: records what the mod sends, answers from plain attributes.

    Attributes:
        sent: every event that the mod sent, in order.
        checkpoints: every state that it saved, in order.
        files: its files, in memory.
        responder: called with each sent event; the mod gets what it returns (default: success).
    """

    def __init__(self, mod_id: str, storage_path: Path) -> None:
        super().__init__(mod_id, "test", storage_path)
        self.sent: list[Event] = []
        self.checkpoints: list[Any] = []
        self.responder: Callable[[Event], EventResponse] = lambda event: EventResponse(True, data={"delivered": 0})
        self.files = MemoryFiles(self._check_loop)
        self.agent_list: list[dict[str, Any]] = []
        self.members: dict[str, list[str]] = {}
        self.group_members: dict[str, list[str]] = {}

    async def send_event(self, event: Event, timeout: float | None = None) -> EventResponse:
        self._check_loop("send_event")
        event = Event.from_dict(unpack(pack(event.to_dict())))
        if event.source_id is None:
            event.source_id = f"mod:{self.mod_id}"
        self.sent.append(event)
        return self.responder(event)

    async def _save(self, state: Any) -> None:
        self._check_loop("checkpoint")
        self.checkpoints.append(unpack(pack(state)))

    async def agents(self) -> list[dict[str, Any]]:
        return list(self.agent_list)

    async def channels(self) -> list[str]:
        return list(self.members)

    async def channel_members(self, channel: str) -> list[str]:
        return list(self.members.get(channel, ()))

    async def groups(self) -> dict[str, list[str]]:
        return dict(self.group_members)


class ModHarness(Generic[M]):
    """Runs one mod in this process as a worker would, from initialize() to shutdown().

    Events and answers pass through msgpack, so that what could not cross the pipe fails here too.
    If a handler raises, `send` raises `modvisor.worker.dispatch.HandlerFailed`.
    """

    def __init__(
        self, mod_class: type[M], *, storage_path: Path, config: dict[str, Any] | None = None, mod_id: str = "mod"
    ) -> None:
        self.mod = mod_class()
        self.mod.config = config or {}
        self._mod_id = mod_id
        self._storage_path = storage_path
        self._executor = ThreadPoolExecutor(max_workers=8)

    async def __aenter__(self) -> ModHarness[M]:
        self._storage_path.mkdir(parents=True, exist_ok=True)
        self.context = RecordingContext(self._mod_id, self._storage_path)
        self.mod.context = self.context
        if (schema := self.mod.config_schema) is not None:
            check_config(self.mod.config, schema, type(self.mod).__qualname__)
        self._dispatcher = Dispatcher(collect_handlers(self.mod), self._executor)
        for name in ("initialize", "activate"):
            if await self.call(name) is False:
                raise AssertionError(f"{type(self.mod).__qualname__}.{name}() returned False")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.call("shutdown")
        self._executor.shutdown()

    @property
    def sent(self) -> list[Event]:
        """The events that the mod has sent so far."""
        return self.context.sent

    async def call(self, name: str, *args: Any) -> Any:
        """Call one of the mod's own methods (`get_state`, …), plain or coroutine."""
        result = getattr(self.mod, name)(*args)
        return await result if asyncio.iscoroutine(result) else result

    async def send(
        self, event_name: str, payload: dict[str, Any] | None = None, **fields: Any
    ) -> EventResponse | Event | None:
        """Send the mod an event. Return its answer: a response, a changed event, or None."""
        answer, _ = await self._dispatcher.ask(self._event(event_name, payload, fields))
        if isinstance(answer, EventResponse):
            return EventResponse.from_dict(unpack(pack(answer.to_dict())))
        return answer

    async def ask(self, event_name: str, payload: dict[str, Any] | None = None, **fields: Any) -> EventResponse:
        """Do as `send` for an event that the mod must answer."""
        answer = await self.send(event_name, payload, **fields)
        assert isinstance(answer, EventResponse), f"{event_name} was not answered but {answer!r}"
        return answer

    async def observe(self, event_name: str, payload: dict[str, Any] | None = None, **fields: Any) -> None:
        """Give the mod's observers a copy of an event. Raise the first failure."""
        for failure in await self._dispatcher.observe(self._event(event_name, payload, fields)):
            raise failure

    async def notify(self, event_name: str, payload: dict[str, Any] | None = None, **fields: Any) -> None:
        """Give the mod a notification of the network. Raise the first failure."""
        for failure in await self._dispatcher.notify(self._event(event_name, payload, fields)):
            raise failure

    def _event(self, event_name: str, payload: dict[str, Any] | None, fields: dict[str, Any]) -> Event:
        fields.setdefault("source_id", "agent:alice")
        return Event.from_dict(unpack(pack(Event(event_name, payload=payload or {}, **fields).to_dict())))
