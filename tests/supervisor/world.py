"""A network without processes, disk and clock: real from gateway to pipe, with fake workers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor.agents.registry import AgentRegistry
from modvisor.supervisor.calls.counters import NetworkCounters
from modvisor.supervisor.calls.journey import Journey
from modvisor.supervisor.config.mods.entry import fingerprint
from modvisor.supervisor.config.mods.mod import ModConfig
from modvisor.supervisor.config.network.network import AgentsConfig
from modvisor.supervisor.config.network.network_file import parse_config
from modvisor.supervisor.events.dead_letters import LetterLedger
from modvisor.supervisor.events.gateway import Gateway
from modvisor.supervisor.events.mod_requests import ModRequests
from modvisor.supervisor.fleet.commands.commands import ModCommands
from modvisor.supervisor.fleet.commands.restored import ModRecords
from modvisor.supervisor.fleet.commands.upkeep import ModUpkeep
from modvisor.supervisor.fleet.registry.registry import ModRegistry
from modvisor.supervisor.journal.deaths import Record
from modvisor.supervisor.journal.journal import Journal
from modvisor.supervisor.journal.records import Checkpoint, DeadLetter, DurableEvent, LastRun, Quarantine, StorageFull
from modvisor.supervisor.journal.state_dir import StateDir
from modvisor.supervisor.lifecycle.keeper import Keeper
from modvisor.supervisor.limits.enforcement import Enforcement
from modvisor.supervisor.limits.over_limit import Exceeded
from modvisor.supervisor.sources.home import Home
from modvisor.supervisor.sources.saved_files import SourceFiles, source_files
from modvisor.supervisor.sources.snapshots import Snapshot, SnapshotStore
from tests.supervisor.fake_workers import Conduct, FakeLauncher, FakeWorker

MOD = "work"
NOWHERE = Home()

T = TypeVar("T")


class MemoryJournal(Journal):
    """A journal in memory. It commits in batches, ``lag`` seconds after the first write of each."""

    def __init__(self) -> None:
        self.lag = 0.0
        self.is_full = False
        self.accepted: dict[int, DurableEvent] = {}
        self.letters: dict[int, DeadLetter] = {}
        self.answers: Counter[int] = Counter()  # by the number of the event: answered, or buried
        self.quarantines: list[tuple[float, Quarantine]] = []
        self._states: dict[str, Checkpoint] = {}
        self._numbers = 0
        self._batch: list[tuple[asyncio.Future[Any], Callable[[], Any]]] = []

    async def _ask(self, what: str, run: Callable[[], Any]) -> Any:
        loop = asyncio.get_running_loop()
        if not self._batch:
            loop.call_later(self.lag, self._commit)
        done: asyncio.Future[Any] = loop.create_future()
        self._batch.append((done, run))
        return await done

    def _commit(self) -> None:
        batch, self._batch = self._batch, []
        for done, run in batch:
            if done.cancelled():
                continue
            try:
                done.set_result(run())
            except ModvisorError as error:
                done.set_exception(error)

    def _write(self) -> None:
        if self.is_full:
            raise StorageFull("the disk is full")

    def record(self, kind: str, data: dict[str, Any]) -> None:
        pass

    def keep_mod(self, mod: Any) -> None:
        pass

    def drop_mod(self, mod_id: str) -> None:
        pass

    def keep_family(self, family: str, record: dict[str, Any] | None) -> None:
        pass

    def keep_crash(self, mod_id: str, at: float, report: dict[str, Any]) -> None:
        pass

    async def committed(self) -> None:
        await asyncio.sleep(self.lag)

    def together(self, what: str, change: Callable[[], T]) -> tuple[T, asyncio.Future[None]]:
        return change(), asyncio.ensure_future(self._ask(what, self._write))

    async def try_room(self) -> None:
        await self._ask("the disk was tried", self._write)

    def quarantine(self, q: Quarantine) -> None:
        self.quarantines.append((asyncio.get_running_loop().time(), q))

    def release(self, mod_id: str) -> None:
        pass

    async def save_checkpoint(self, mod_id: str, version: str, state: Any) -> None:
        def save() -> None:
            self._write()
            self._states[mod_id] = Checkpoint(mod_id, version, state, 0.0, 0)

        await self._ask("checkpoint", save)

    async def checkpoint(self, mod_id: str) -> Checkpoint | None:
        return await self._ask("checkpoint", lambda: self._states.get(mod_id))

    def drop_checkpoint(self, mod_id: str) -> None:
        self._states.pop(mod_id, None)

    def forget_mod(self, mod_id: str, workers: Sequence[str]) -> None:
        for each in (mod_id, *workers):
            self._states.pop(each, None)

    async def accept(self, mod_id: str, event: Event, owner: str | None = None) -> int:
        fresh: list[int] = []

        def accept() -> int:
            self._write()
            for kept in self.accepted.values():
                if (kept.owner or kept.event.source_id, kept.event.event_id) == (
                    owner or event.source_id,
                    event.event_id,
                ):
                    return kept.seq
            self._numbers += 1
            fresh.append(self._numbers)
            self.accepted[self._numbers] = DurableEvent(self._numbers, mod_id, event.copy(), event.attempt, 0.0, owner)
            return self._numbers

        try:
            return await self._ask("event", accept)
        except asyncio.CancelledError:
            for seq in fresh:  # nobody waits for it any more
                del self.accepted[seq]
            raise

    def charge(self, seq: int, record: Record) -> None:
        self.accepted[seq] = replace(self.accepted[seq], attempt=record.attempt, record=record)

    def answered(self, seq: int, answer: bytes | None = None) -> None:
        self.answers[seq] += 1
        del self.accepted[seq]

    async def pending(self, mod_id: str, after: int = 0, limit: int = 1000) -> list[DurableEvent]:
        def pending() -> list[DurableEvent]:
            kept = [event for event in self.accepted.values() if event.mod_id == mod_id and event.seq > after]
            return sorted(kept, key=lambda event: event.seq)[:limit]

        return await self._ask("pending events", pending)

    async def pending_counts(self) -> dict[str, int]:
        return await self._ask("pending events", lambda: Counter(event.mod_id for event in self.accepted.values()))

    def hand_on(self, former: str, mod_id: str, entry: Any = None) -> None:
        for seq, kept in self.accepted.items():
            if kept.mod_id == former:
                self.accepted[seq] = replace(kept, mod_id=mod_id)
        if (state := self._states.pop(former, None)) is not None:
            self._states[mod_id] = replace(state, mod_id=mod_id)

    def reassign(self, seq: int, mod_id: str) -> None:
        self.accepted[seq] = replace(self.accepted[seq], mod_id=mod_id)

    async def bury(self, letter: DeadLetter, *, seq: int | None = None) -> int:
        def bury() -> int:
            self._write()
            self._numbers += 1
            self.letters[self._numbers] = letter
            if seq is not None:
                self.answered(seq)
            return self._numbers

        return await self._ask("dead letter", bury)

    @property
    def buried(self) -> Counter[str]:
        """By event id."""
        return Counter(letter.event["event_id"] for letter in self.letters.values())


class MemorySnapshots(SnapshotStore):
    """Kept sources in memory."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[str, Snapshot]] = {}
        self._on_trial: dict[str, tuple[str, Snapshot]] = {}

    async def write(
        self,
        mod_id: str,
        mod_path: str,
        modules: Any,
        home: Home = NOWHERE,
        asked: str | None = None,
        *,
        on_trial: bool = False,
    ) -> SourceFiles:
        await asyncio.sleep(0)
        (self._on_trial if on_trial else self._kept)[mod_id] = mod_path, Snapshot(modules, home)
        return source_files(mod_path, modules, home.file)

    async def accept(self, mod_id: str) -> None:
        await asyncio.sleep(0)
        self._kept[mod_id] = self._on_trial.pop(mod_id)

    async def read(self, mod_id: str) -> Snapshot | None:
        await asyncio.sleep(0)
        return self._kept[mod_id][1] if mod_id in self._kept else None

    async def is_of(self, mod_id: str, mod_path: str, asked: str | None = None) -> bool:
        return mod_id in self._kept and self._kept[mod_id][0] == mod_path

    async def forget(self, mod_id: str) -> None:
        await asyncio.sleep(0)
        self._kept.pop(mod_id, None)
        self._on_trial.pop(mod_id, None)


@dataclass(eq=False)
class Sent:
    """An event on its way, and its answer."""

    event: Event
    deadline: float
    task: asyncio.Task[EventResponse]

    @property
    def n(self) -> int:
        return self.event.payload["n"]

    @property
    def do(self) -> str:
        return self.event.payload["do"]

    @property
    def given_up(self) -> bool:
        return self.task.done() and self.task.cancelled()

    @property
    def answer(self) -> EventResponse | None:
        return self.task.result() if self.task.done() and not self.task.cancelled() else None


class World:
    """One network with one mod, ``work``. Make it and use it in a running `VirtualTimeLoop`.

    Args:
        folder: for what is a file after all; it may be shared.
        mod: the mod's entry in the network file.
    """

    def __init__(self, folder: Path, **mod: Any) -> None:
        entry = {"path": f"pkg.{MOD}", **mod}
        self.config = parse_config({"network": {"name": "world", "cgroups": False}, "mods": [entry]}, base_dir=folder)
        self.loop = asyncio.get_running_loop()
        self.conduct = Conduct()
        self.launcher = FakeLauncher(self.conduct)
        self.journal = MemoryJournal()
        self.enforcement = Enforcement(
            self.config.network_id, False, lambda _pids, _groups: {}
        )  # its watchdog does not run
        self.agents = AgentRegistry(AgentsConfig(), {}, self.journal.record)
        self.late: list[tuple[Journey, Any]] = []  # answers nobody waited for
        self.sent: list[Sent] = []
        self._numbers = 0  # of events
        self.commands: list[asyncio.Task[Any]] = []
        self.mods: ModRegistry
        self.ask: ModCommands
        self.gateway: Gateway
        self._requests: ModRequests
        self._started: asyncio.Future[None] = self.loop.create_future()
        self._stop = asyncio.Event()
        self._owner = self.loop.create_task(self._own(folder), name="owner")

    @property
    def mod(self) -> ModConfig:
        return self.config.mods[0]

    @property
    def keeper(self) -> Keeper | None:
        return self.mods.find(MOD) if self._started.done() else None

    @property
    def worker(self) -> FakeWorker | None:
        """The worker that events go to."""
        keeper = self.keeper
        if keeper is None or keeper.incarnation is None:
            return None
        return next(worker for worker in self.launcher.workers if worker.pid == keeper.incarnation.pid)

    # -- life

    async def _own(self, folder: Path) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                self._put_together(StateDir(folder / "state"), tasks)
                self._started.set_result(None)
                await self._stop.wait()
                tasks.cancel_scope.cancel()
        finally:
            if not self._started.done():
                self._started.cancel()

    def _put_together(self, state: StateDir, tasks: TaskGroup) -> None:
        config, snapshots = self.config, MemorySnapshots()
        self.mods = ModRegistry(
            config,
            state,
            tasks,
            on_request=lambda keeper, incarnation, request: self._requests.take(keeper, incarnation, request),
            on_cancel=lambda incarnation, request_id: self._requests.cancel(incarnation, request_id),
            late=self._late,
            resources_of=lambda _pid: None,
            enforcement=self.enforcement,
            journal=self.journal,
            ledger=LetterLedger(self.journal, self.journal),
            launcher=self.launcher,
            snapshots=snapshots,
        )
        records = ModRecords(self.mods, self.journal, snapshots)
        self.ask = ModCommands(self.mods, records, self.journal, snapshots)
        self.mods.upkeep = ModUpkeep(self.mods, records, tasks)
        self.gateway = Gateway(self.mods, self.agents, _no_commands, NetworkCounters(), config.event_timeout)
        self._requests = ModRequests(tasks, self.agents, self.gateway)

    def dismiss_the_network(self) -> None:
        """End what belongs to the network and to no mod: the task that holds those that answer workers."""
        self._requests._crew.dismiss()

    async def _late(self, journey: Journey, mod_id: str, outcome: Any) -> None:
        self.late.append((journey, outcome))
        await self.gateway.late(journey, mod_id, outcome)

    async def open(self, *, in_quarantine: bool = False) -> None:
        """Load the mod, which may have been in quarantine when the network last ran."""
        await self._started
        if in_quarantine:
            kept = Quarantine(MOD, self.mod.path, "it kept ending", 0.0, fingerprint(self.mod))
            self.ask.records.restore(LastRun(quarantines={MOD: kept}))
        await self.ask.load(self.mod)

    async def close(self) -> None:
        """End everything; raise what went wrong in the network's own tasks."""
        if not self._owner.done():
            await self.ask.close()
            self._stop.set()
        await asyncio.wait([self._owner])
        await self.launcher.close()
        self._owner.result()

    @property
    def failed(self) -> BaseException | None:
        """Why the network ended by itself; None if it did not."""
        return self._owner.exception() if self._owner.done() else None

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait for a condition that no event tells of; fail after so many seconds."""
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.001)

    # -- what is done

    def event(
        self, do: str = "answer", *, source: str = "agent:a", timeout: float | None = None, **payload: Any
    ) -> Event:
        """Make the next event without sending it."""
        n = self._numbers
        self._numbers += 1
        payload = {"n": n, "do": do, **payload}
        return Event("work.do", source, f"mod:{MOD}", payload, event_id=f"e{n}", timeout=timeout)

    def send(self, do: str = "answer", **more: Any) -> Sent:
        """Send an event; a task waits for its answer."""
        event = self.event(do, **more)
        deadline = self.loop.time() + (self.config.event_timeout if event.timeout is None else event.timeout)
        sent = Sent(event, deadline, self.loop.create_task(self.gateway.from_inside(event), name=event.event_id))
        self.sent.append(sent)
        return sent

    def command(self, command: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin a command of the operator."""
        task = self.loop.create_task(command)
        self.commands.append(task)
        return task

    def exceed(self, worker: FakeWorker, resource: str, *, hard: bool) -> None:
        """Have the watchdog tell that a worker exceeds a limit."""
        worker.faults.add("used too much")
        watchdog = self.enforcement.watchdog
        if (watched := watchdog._watched.get(worker.pid)) is not None:
            text = f"{resource}: used 2 of 1"
            watchdog._report_in_loop(watched, Exceeded(resource, 2.0, 1.0, hard, text))


async def _no_commands(event: Event, _caller: Any) -> EventResponse:
    return EventResponse.failure(Code.UNKNOWN_EVENT, f"{event.event_name} is not for tests")
