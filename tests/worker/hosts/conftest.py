"""A real worker in this process, asked over a real pipe by a core that answers what a mod asks."""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc import messages
from modvisor.ipc.event import Event, EventResponse
from modvisor.ipc.messages import Request
from modvisor.ipc.pipe import Pipe
from modvisor.worker import pool_child
from modvisor.worker.serve import Worker

HEAD = """
import asyncio
from openagents.core.base_mod import BaseMod, mod_event_handler
from openagents.models.event import Event
from openagents.models.event_response import EventResponse
"""


class Core:
    """The other end of a worker's pipe.

    Attributes:
        agents: what the mirror tells at the beginning.
        sent: the events that the mod has sent; ``calls``: its channel calls. Both in their order,
            in ``asked`` together.
        respond: answers each event that the mod sends.
        refusal: the code that channel calls are refused with.
    """

    def __init__(self, folder: Path) -> None:
        near, far = socket.socketpair()
        self.folder = folder
        self.agents: list[dict[str, Any]] = []
        self.asked: list[tuple[str, Any]] = []
        self.refusal: str | None = None
        self.respond: Callable[[Event], EventResponse] = lambda _event: EventResponse(True, data={"delivered": 1})
        self.pipe = Pipe(near, on_request=self._answer, on_notification=_ignore, on_close=_ignore)
        self.worker = Worker(far)

    @property
    def sent(self) -> list[Event]:
        return [what for kind, what in self.asked if kind == messages.SEND_EVENT]

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [what for kind, what in self.asked if kind == messages.CHANNEL]

    def _answer(self, request: Request) -> None:
        if request.method == messages.MIRROR:
            self.pipe.notify(messages.MIRROR, {"agents": self.agents, "channels": {}, "groups": {}, "last": True})
            self.pipe.respond(request.id, None)
        elif request.method == messages.SEND_EVENT:
            event = event_in(request)
            self.asked.append((messages.SEND_EVENT, event))
            self.pipe.respond(request.id, self.respond(event).to_dict())
        elif self.refusal is not None:
            self.asked.append((messages.CHANNEL, request.params))
            self.pipe.refuse(request.id, self.refusal, "no")
        else:
            self.asked.append((messages.CHANNEL, call := request.params))
            self.change([call["do"], call["channel"], *([call["agent_id"]] if "agent_id" in call else [])])
            self.pipe.respond(request.id, None)

    def change(self, *changes: list[Any]) -> None:
        """Tell the worker what has changed."""
        self.pipe.notify(messages.CHANGES, {"changes": list(changes)})

    async def load(self, mod_path: str = "./mine", config: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Have the worker load a mod; the manifest."""
        folder = str(self.folder / mod_path[2:]) if mod_path.startswith("./") else None
        params = {
            "mod_id": mod_path.rpartition(".")[2].strip("/"), "mod_path": mod_path, "folder": folder, "network_name": "Net",
            "network_id": "net-1", "storage_path": str(self.folder / "storage"), "config": config, "limits": None, **more,
        }  # fmt: skip
        return await self.pipe.request(messages.LOAD, params)

    async def start(self, mod_path: str = "./mine", state: Any = None, **more: Any) -> dict[str, Any]:
        """Load a mod, give it a state, activate it; the manifest."""
        manifest = await self.load(mod_path, **more)
        if state is not None:
            await self.pipe.request(messages.SET_STATE, {"state": state, "from_version": "0.0.0"})
        await self.pipe.request(messages.ACTIVATE, {})
        return manifest

    async def ask(self, name: str, payload: dict[str, Any] | None = None, **fields: Any) -> Any:
        """Send the mod an event; its answer as it is on the wire."""
        event = Event(name, fields.pop("source_id", "alice"), payload=payload or {}, **fields)
        return await self.pipe.request(messages.EVENT, {"event": event.to_dict()})

    async def answer(self, name: str, payload: dict[str, Any] | None = None, **fields: Any) -> Any:
        """Send the mod an event; the data of its response."""
        answer = await self.ask(name, payload, **fields)
        assert answer["response"]["success"], answer
        return answer["response"].get("data")

    async def state(self) -> Any:
        return (await self.pipe.request(messages.GET_STATE, {}))["state"]

    async def close(self) -> None:
        if not self.worker.ended.is_set():
            await self.pipe.request(messages.SHUTDOWN, {})
        await self.worker.close()
        self.pipe.close()


def event_in(request: Request) -> Event:
    """Return the event that a mod sends, however the request was read."""
    params = request.params
    return Event.from_dict(params["event"]) if isinstance(params, dict) else params.event


def _ignore(_what: object) -> None:
    """Drop what is of no interest here."""


@pytest.fixture
async def make_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], Core]]:
    """Make cores with a worker each. What a worker leaves in a process is undone at the end."""
    (tmp_path / "storage").mkdir()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setenv(pool_child.VARIABLE, "")
    made: list[Core] = []
    finders = list(sys.meta_path)

    def make() -> Core:  # as in the fresh process that each worker is
        sys.meta_path[:] = finders
        for name in [name for name in sys.modules if name.startswith("local_mods")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        made.append(Core(tmp_path))
        return made[-1]

    yield make
    for core in made:
        await core.close()
    for name in [name for name in sys.modules if name.startswith("local_mods")]:
        del sys.modules[name]


@pytest.fixture
def write_theirs(tmp_path: Path) -> Callable[..., None]:
    """Write the mod of OpenAgents ``./mine``, after the imports that it needs."""

    def write(source: str, **files: str) -> None:
        folder = tmp_path / "mine"
        folder.mkdir(exist_ok=True)
        for name, text in {"mod": HEAD + textwrap.dedent(source), **files}.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text))

    return write


async def settle(rounds: int = 50) -> None:
    """Let what is ready run."""
    for _ in range(rounds):
        await asyncio.sleep(0)
