"""A whole network on a virtual clock: `AgentNetwork` as it is, with its journal and its snapshots on disk.

Only what needs threads and processes is another: workers live in the loop of the test
(`fake_workers`), the journal's writer and every call that goes to a thread run in the loop, too. So
the network can be killed at any turn of the loop, and started again on what is on disk.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio.to_thread

from modvisor.ipc import messages
from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event, EventResponse
from modvisor.ipc.messages import Request, unpack
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.aside import Aside
from modvisor.supervisor.config import NetworkConfig, parse_config
from modvisor.supervisor.fleet import Mod
from modvisor.supervisor.journal.writer import Writer
from modvisor.supervisor.limits.enforcement import Enforcement
from modvisor.supervisor.process.launch import Launch
from modvisor.supervisor.process.process import Exit
from tests.supervisor.fake_workers import Conduct, FakeLauncher, FakeProcess, FakeWorker

BROKEN = 0
"""The edition of a mod's files that cannot be imported."""


class LifeWorker(FakeWorker):
    """A fake worker that becomes the mod that it is told to load.

    Attributes:
        edition: of the files of its mod when it was loaded; they may be edited meanwhile.
    """

    launcher: LifeLauncher
    mod_id = ""
    replica: int | None = None
    path = ""
    edition = BROKEN

    @property
    def worker_id(self) -> str:
        return self.mod_id if self.replica is None else f"{self.mod_id}#{self.replica}"

    async def _answer_to(self, request: Request) -> Any:
        params = request.params or {}
        if request.method == messages.LOAD:
            self.mod_id, self.replica, self.path = params["mod_id"], params["replica"], params["mod_path"]
            kept = params.get("snapshot")
            self.edition = self.launcher.editions[self.path] if kept is None else int(kept["mod"]["source"])
        answer = await super()._answer_to(request)
        match request.method:
            case messages.LOAD if "mod_class" in answer:
                if self.edition == BROKEN:
                    raise ModvisorError("SyntaxError", code=Code.IMPORT_FAILED)
                return {**answer, "version": f"{self.edition}.0"}
            case messages.SNAPSHOT:
                source = str(self.edition).encode()
                return {"mod": {"path": f"/{self.path}/mod.py", "source": source, "is_package": False}}
            case messages.PART:
                return [{"of": self.pid}] * params["count"]
        return answer

    async def _handle(self, request_id: int, event: dict[str, Any]) -> Any:
        """Note the events whose handler came to an end, whatever end it was."""
        try:
            return await super()._handle(request_id, event)
        finally:
            if self.alive:
                self.launcher.ended.add(event["event_id"])

    async def _ask_itself(self, request_id: int, n: int, do: str) -> Any:
        inner = {"event_name": "work.inner", "destination_id": f"mod:{self.mod_id}", "payload": {"n": n, "do": do}}
        answer = await self.pipe.request(messages.SEND_EVENT, {"event": inner, "cause": request_id})
        return {"response": {**answer, "data": [n, 0] if answer["success"] else answer.get("data")}}


class LifeLauncher(FakeLauncher):
    """Starts the workers of one run of the network."""

    make = LifeWorker
    workers: list[LifeWorker]

    def __init__(self, conduct: Conduct, editions: dict[str, int], ended: set[str]) -> None:
        super().__init__(conduct)
        self.editions = editions
        self.ended = ended
        self.is_dead = False

    async def launch(self, launch: Launch) -> FakeProcess:
        if self.is_dead:
            raise OSError(11, "the supervisor was killed")
        return await super().launch(launch)

    def die(self) -> None:
        """End every worker at once, as the kernel and the wardens do when a supervisor was killed."""
        self.is_dead = True
        self.on_signal = self.on_death = self.on_exit = self.on_event = lambda *_: None
        self.conduct = Conduct()
        for worker in self.living:
            worker.conduct = self.conduct
            worker.let_go()
            worker.die(Exit(None, 9), by="the supervisor")


class LoopWriter(Writer):
    """A journal's writer without a thread. It commits ``lag`` seconds after the first job of a batch."""

    lag = 0.0
    is_full = False
    newest: LoopWriter

    def start(self) -> None:
        LoopWriter.newest = self
        self._loop = asyncio.get_running_loop()
        self._due: asyncio.TimerHandle | None = None

    def submit(self, job: Any) -> bool:
        taken = super().submit(job)
        if taken and self._due is None:
            self._due = self._loop.call_later(self.lag, self._turn)
        return taken

    def _turn(self) -> None:
        self._due = None
        if not self._closed:
            self._round(0.0)
            if self._postponed:
                self._due = self._loop.call_later(1.0, self._turn)

    def _try(self, jobs: Any) -> Exception | None:
        return sqlite3.OperationalError("disk full") if self.is_full else super()._try(jobs)

    def close(self) -> None:
        if not self._closed:
            self.is_full = False
            while self.waiting:
                self._round(0.0)
            self._closed = True
            self._cancel()
            with closing(self._store.connection):
                self._leave()

    def kill(self) -> None:
        """End in the middle of everything: what was not committed is lost."""
        self._closed = True
        self._cancel()
        self._store.connection.close()

    def _cancel(self) -> None:
        if self._due is not None:
            self._due.cancel()


@dataclass(eq=False)
class Sent:
    """An event on its way, and its answer.

    Attributes:
        run: which run of the network it was sent in.
    """

    event: Event
    deadline: float
    run: int
    task: asyncio.Task[EventResponse]

    @property
    def n(self) -> int:
        return self.event.payload["n"]

    @property
    def do(self) -> str:
        return self.event.payload["do"]

    @property
    def answer(self) -> EventResponse | None:
        return self.task.result() if self.task.done() and not self.task.cancelled() else None


@dataclass
class OnDisk:
    """What the journal holds, as another program reads it.

    Attributes:
        pending: the attempt of each accepted event, by its id.
        buried: mod and event of each dead letter.
    """

    mods: dict[str, str] = field(default_factory=dict)
    quarantined: set[str] = field(default_factory=set)
    pending: dict[str, int] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    buried: list[tuple[str, str]] = field(default_factory=list)


class WholeWorld:
    """One network, run after run. Make it and use it in a running `VirtualTimeLoop`, inside `in_loop`."""

    def __init__(self, folder: Path, mods: list[Any]) -> None:
        self.folder = folder
        self.loop = asyncio.get_running_loop()
        self.conduct = Conduct()
        self.editions: dict[str, int] = {}  # by path
        self.ended: set[str] = set()  # events whose handler came to an end
        self.sent: list[Sent] = []
        self.commands: list[asyncio.Task[Any]] = []
        self.runs = 0
        self.file = mods
        self.watch: Callable[[LifeLauncher], None] = lambda _launcher: None
        self.launcher: LifeLauncher
        self.network: AgentNetwork
        self._numbers = 0

    def config(self) -> NetworkConfig:
        network = {"name": "life", "cgroups": False, "storage": "state"}
        return parse_config(
            {"network": network, "journal": {"sync": "normal"}, "mods": self.file}, base_dir=self.folder
        )

    # -- life

    @property
    def runs_now(self) -> bool:
        return hasattr(self, "network") and self.network._parts is not None

    @property
    def mods(self) -> list[Mod]:
        return list(self.network._parts.mods) if self.network._parts is not None else []

    def mod(self, mod_id: str) -> Mod | None:
        return self.network._parts.mods.get(mod_id) if self.network._parts is not None else None

    def worker_of(self, mod_id: str) -> LifeWorker | None:
        """The first worker that events for a mod go to."""
        mod = self.mod(mod_id)
        if mod is None or mod.incarnation is None:
            return None
        return next(worker for worker in self.launcher.workers if worker.pid == mod.incarnation.pid)

    async def start(self) -> None:
        self.runs += 1
        self.launcher = LifeLauncher(self.conduct, self.editions, self.ended)
        self.watch(self.launcher)
        self.network = AgentNetwork(self.config())
        with patch("modvisor.supervisor.wiring.make_launcher", lambda *_: self.launcher):
            await self.network.initialize()

    async def stop(self) -> None:
        await self.network.shutdown()
        await self.launcher.close()

    async def kill(self) -> None:
        """Kill the supervisor; what it would do at its end is done in vain."""
        LoopWriter.newest.kill()
        self.launcher.die()
        for task in (*(sent.task for sent in self.sent), *self.commands):
            task.cancel()
        await asyncio.sleep(0)
        await self.network.shutdown()
        await self.launcher.close()

    # -- what is done

    def send(
        self, destination: str, do: str = "answer", *, source: str = "agent:x", timeout: float | None = None
    ) -> Sent:
        """Send an event; a task waits for its answer."""
        n = self._numbers
        self._numbers += 1
        event = Event("work.do", source, destination, {"n": n, "do": do}, event_id=f"e{n}", timeout=timeout)
        deadline = self.loop.time() + (self.network.config.event_timeout if timeout is None else timeout)
        task = asyncio.ensure_future(self.network.process_event(event))
        sent = Sent(event, deadline, self.runs, task)
        self.sent.append(sent)
        return sent

    def command(self, command: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin a command of the operator."""
        task = self.loop.create_task(command)
        self.commands.append(task)
        return task

    # -- what is on disk

    def on_disk(self) -> OnDisk:
        with closing(sqlite3.connect(self.folder / "state" / "network.db")) as file:
            pending = file.execute("SELECT event_id, attempt, mod_id FROM durable").fetchall()
            letters = file.execute("SELECT mod_id, event FROM dead_letter").fetchall()
            return OnDisk(
                dict(file.execute("SELECT mod_id, path FROM mod").fetchall()),
                {row[0] for row in file.execute("SELECT mod_id FROM quarantine")},
                {row[0]: row[1] for row in pending},
                {row[0]: row[2] for row in pending},
                [(mod_id, unpack(event)["event_id"]) for mod_id, event in letters],
            )


async def _inline(run: Callable[..., Any], *args: Any, **_: Any) -> Any:
    await asyncio.sleep(0)
    return run(*args)


async def _no_watchdog(_self: Enforcement) -> None:
    await asyncio.Event().wait()


@contextmanager
def in_loop() -> Iterator[None]:
    """Have networks do in the loop what they do in threads."""
    with (
        patch.object(anyio.to_thread, "run_sync", _inline),
        patch.object(Aside, "run", lambda _self, run, *args: _inline(run, *args)),
        patch("modvisor.supervisor.journal.journal.Writer", LoopWriter),
        patch.object(Enforcement, "run", _no_watchdog),
    ):
        yield


def scratch() -> Path | None:
    """A folder in memory, if there is one: every life has a state folder of its own."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None
