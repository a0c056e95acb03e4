"""Act on the mods from outside: signals, commands, and an operator who watches them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modvisor.ipc.errors import Code
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.fleet.registry.registry import ModRegistry
from modvisor.supervisor.lifecycle.keeper import Keeper
from modvisor.supervisor.lifecycle.states import State
from modvisor.supervisor.process.crashes import Cause, CrashReport
from modvisor.supervisor.process.guarded import GuardedProcess, GuardianLauncher

from .load import Load
from .mischief import OUTSIDE, TABLE
from .players import MAD, PLAYER, settings_of
from .schedule import Act

AMBUSH = 3.0  # seconds to wait for a worker that starts
START = 0.15  # seconds that a start takes
REST = 0.5  # seconds that a mod stays down before the operator restarts it
LOOK = 0.25  # seconds between two looks
WORDS = 8  # lines of the log to keep with a crash report


@dataclass(frozen=True, slots=True)
class End:
    """The part of a crash report that the audit needs. `words`: the end of the log, for people."""

    mod_id: str
    incarnation: int
    pid: int | None
    cause: Cause
    detail: str
    at: float
    words: str

    @classmethod
    def of(cls, report: CrashReport) -> End:
        words = "\n".join(report.log[-WORDS:])
        return cls(report.mod_id, report.incarnation, report.pid, report.cause, report.detail, report.at, words)


class Outside:
    """Carries out the schedule, restarts mods that stay down, collects crash reports in time.

    Attributes:
        done: how often each misbehaviour happened; `missed`: how often its mod was down.
        deeds: mod and pid to what was done to the process.
        replaced: mod and pid of processes that a command ended.
        unloaded: mod to the monotonic seconds of its unloads, which delete all that was kept of it.
        felled: Unix seconds at which a worker was killed during its start.
        revived: how often a mod was brought back by hand.
    """

    def __init__(self, network: AgentNetwork, load: Load, mark: str) -> None:
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.deeds: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        self.replaced: set[tuple[str, int]] = set()
        self.unloaded: defaultdict[str, list[float]] = defaultdict(list)
        self.felled: list[float] = []
        self.revived = 0
        self._ends: dict[tuple[str, float], End] = {}
        self._network = network
        self._load = load
        self._mark = mark.encode()
        self._commands: set[asyncio.Task[None]] = set()
        self._watching: list[asyncio.Task[None]] = []

    @property
    def ends(self) -> list[End]:
        """Return every crash report so far."""
        self._collect()
        return list(self._ends.values())

    async def open(self) -> None:
        self._watching = [asyncio.create_task(self._tend(mod_id)) for mod_id in MAD]
        self._watching.append(asyncio.create_task(self._watch()))

    async def close(self) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.wait(self._watching)
        self._collect()

    async def carry_out(self, acts: list[Act]) -> None:
        """Do each act at its time, counted from now."""
        begin = time.monotonic()
        for number, act in enumerate(acts):
            await asyncio.sleep(max(0.0, begin + act.at - time.monotonic()))
            if act.name in TABLE and act.name not in OUTSIDE:
                mischief = TABLE[act.name]
                self.done[act.name] += 1
                self._load.send_act(act, number, mischief.act or act.name, mischief.once)
            elif self._do(act):
                self.done[act.name] += 1
            else:
                self.missed[act.name] += 1

    async def commanded(self, timeout: float) -> bool:
        """Wait for the commands in flight. Return False if some run after `timeout` seconds."""
        if self._commands:
            await asyncio.wait(self._commands, timeout=timeout)
        return not self._commands

    # -- what is done

    def _do(self, act: Act) -> bool:
        if act.name in SIGNALS_TO_GUARDIAN:
            return self._signal(self.guardian_pid(), SIGNALS_TO_GUARDIAN[act.name])
        if act.name not in SIGNALS:
            self._command(act)
            return True
        keeper = self._keeper(act.mod_id)
        if keeper is None or keeper.incarnation is None or keeper.incarnation.process.exited.done():
            return False
        process = keeper.incarnation.process
        assert isinstance(process, GuardedProcess)
        if not self._signal(process.warden if act.name == "kill_warden" else process.pid, SIGNALS[act.name]):
            return False
        self.deeds[act.mod_id, process.pid].append(act.name)
        return True

    def _signal(self, pid: int, signum: int) -> bool:
        """Send a signal, but only to a live process of this run."""
        with suppress(OSError):
            if self._mark in Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(pid, signum)
                return True
        return False

    # -- what takes time

    def _command(self, act: Act) -> None:
        command = {
            "restart": self._restart, "reload": self._reload, "unload": self._unload, "kill_starting": self._kill_starting,
        }[act.name]  # fmt: skip
        task = asyncio.create_task(command(act))
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)

    async def _restart(self, act: Act) -> None:
        self._note_replaced(act.mod_id)
        await self._network.restart_mod(act.mod_id)
        self._note_replaced(act.mod_id)

    async def _reload(self, act: Act) -> None:
        self._note_replaced(act.mod_id)
        await self._network.reload_mod(act.mod_id)
        self._note_replaced(act.mod_id)

    async def _unload(self, act: Act) -> None:
        """Unload a mod, and load it again until that succeeds."""
        self._collect()
        self._note_replaced(act.mod_id)
        await self._network.unload_mod(act.mod_id)
        self.unloaded[act.mod_id].append(time.monotonic())
        while not await self._load_again(act.mod_id):  # noqa: ASYNC110
            await asyncio.sleep(REST)

    async def _load_again(self, mod_id: str) -> bool:
        loaded = await self._network.load_mod(PLAYER, mod_id=mod_id, **settings_of(mod_id))
        return loaded.success or loaded.error == Code.ALREADY_LOADED

    async def _kill_starting(self, act: Act) -> None:
        """Kill the next worker at some moment of its start."""
        launcher, end = self._launcher(), time.monotonic() + AMBUSH
        before = set(launcher._running)
        while not (new := launcher._running - before) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        for process in list(new)[:1]:
            await asyncio.sleep(random.Random(act.seed).uniform(0, START))
            serving = {keeper.incarnation.pid for keeper in self._mods() if keeper.incarnation is not None}
            if process.pid not in serving and not process.exited.done() and self._signal(process.pid, signal.SIGKILL):
                self.felled.append(time.time())

    def _note_replaced(self, mod_id: str) -> None:
        keeper = self._keeper(mod_id)
        if keeper is not None and keeper.incarnation is not None:
            self.replaced.add((mod_id, keeper.incarnation.pid))

    # -- looking up

    def guardian_pid(self) -> int:
        guardian = self._launcher()._guardian
        assert guardian is not None
        return guardian.pid

    def _launcher(self) -> GuardianLauncher:
        launcher = self._mods()._shared.launcher
        assert isinstance(launcher, GuardianLauncher)
        return launcher

    def _mods(self) -> ModRegistry:
        return self._network._running().mods

    def _keeper(self, mod_id: str) -> Keeper | None:
        return self._mods().find(mod_id)

    # -- watching

    async def _tend(self, mod_id: str) -> None:
        """Restart a mod that stays quarantined, failed or stopped, as an operator would."""
        while True:
            await asyncio.sleep(LOOK)
            keeper = self._keeper(mod_id)
            if keeper is not None and keeper.state in (State.QUARANTINED, State.FAILED, State.STOPPED):
                await asyncio.sleep(REST)
                self.revived += (await self._network.restart_mod(mod_id)).success

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self._collect()

    def _collect(self) -> None:
        """Collect the reports now: a mod keeps only its newest ones."""
        for keeper in self._mods():
            for report in keeper.crashes:
                self._ends.setdefault((keeper.mod_id, report.at), End.of(report))


SIGNALS = {
    "kill_worker": signal.SIGKILL,
    "stop_worker": signal.SIGSTOP,
    "terminate_worker": signal.SIGTERM,
    "kill_warden": signal.SIGKILL,
}
SIGNALS_TO_GUARDIAN = {"kill_guardian": signal.SIGKILL, "stop_guardian": signal.SIGSTOP}
