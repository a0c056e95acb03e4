"""What is done to the mods from the outside: signals and commands; and what an operator does who watches them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.crashes import Cause, CrashReport
from modvisor.supervisor.guardian import GuardedProcess, GuardianLauncher
from modvisor.supervisor.keeper import Keeper

from .load import Load
from .mischief import OUTSIDE, TABLE
from .players import MAD, MODS
from .schedule import Act

REST = 0.5  # seconds that a mod stays down before somebody brings it back
LOOK = 0.25  # seconds between two looks
WORDS = 8  # lines of its log that are kept of an end


@dataclass(frozen=True, slots=True)
class End:
    """What the audit needs of a crash report. ``words``: the end of the log, for people."""

    mod_id: str
    incarnation: int
    pid: int | None
    cause: Cause
    detail: str
    words: str

    @classmethod
    def of(cls, report: CrashReport) -> End:
        words = "\n".join(report.log[-WORDS:])
        return cls(report.mod_id, report.incarnation, report.pid, report.cause, report.detail, words)


class Outside:
    """Carries out the schedule, brings back what stays down, collects the crash reports before they are forgotten.

    Attributes:
        done: how often each misbehaviour came to be; ``missed``: its mod was down.
        deeds: mod and pid to what was done to that process.
        replaced: mod and pid of processes that a command has ended.
        revived: how often a mod was brought back by hand.
    """

    def __init__(self, network: AgentNetwork, load: Load, mark: str) -> None:
        self.done: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.deeds: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        self.replaced: set[tuple[str, int]] = set()
        self.revived = 0
        self._ends: dict[tuple[str, int], End] = {}
        self._network = network
        self._load = load
        self._mark = mark.encode()
        self._commands: set[asyncio.Task[None]] = set()
        self._watching: list[asyncio.Task[None]] = []

    @property
    def ends(self) -> list[End]:
        """Every crash report so far."""
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
        """Each at its time, seen from now."""
        begin = asyncio.get_running_loop().time()
        for number, act in enumerate(acts):
            await asyncio.sleep(max(0.0, begin + act.at - asyncio.get_running_loop().time()))
            if act.name in TABLE and act.name not in OUTSIDE:
                mischief = TABLE[act.name]
                self.done[act.name] += 1
                self._load.send_act(act, number, mischief.act or act.name, mischief.once)
            elif self._do(act):
                self.done[act.name] += 1
            else:
                self.missed[act.name] += 1

    async def commanded(self, timeout: float) -> bool:
        """Wait for the commands under way; False if some are after ``timeout`` seconds."""
        if self._commands:
            await asyncio.wait(self._commands, timeout=timeout)
        return not self._commands

    # -- what is done

    def _do(self, act: Act) -> bool:
        if act.name.endswith("_guardian"):
            return self._signal(self.guardian_pid(), SIGNALS[act.name])
        if act.name in ("restart", "reload"):
            self._command(act)
            return True
        keeper = self._keeper(act.mod_id)
        if keeper.incarnation is None or keeper.incarnation.process.exited.done():
            return False
        process = keeper.incarnation.process
        if act.name == "kill_warden":
            assert isinstance(process, GuardedProcess)
        victim = process.warden if isinstance(process, GuardedProcess) and act.name == "kill_warden" else process.pid
        if not self._signal(victim, SIGNALS[act.name]):
            return False
        self.deeds[act.mod_id, process.pid].append(act.name)
        return True

    def _signal(self, pid: int, signum: int) -> bool:
        """Only a process of this run, and a living one."""
        with suppress(OSError):
            if self._mark in Path(f"/proc/{pid}/environ").read_bytes():
                os.kill(pid, signum)
                return True
        return False

    def _command(self, act: Act) -> None:
        command = {"restart": self._network.restart_mod, "reload": self._network.reload_mod}[act.name]

        async def carry_out() -> None:
            self._note_replaced(act.mod_id)
            await command(act.mod_id)
            self._note_replaced(act.mod_id)

        task = asyncio.create_task(carry_out())
        self._commands.add(task)
        task.add_done_callback(self._commands.discard)

    def _note_replaced(self, mod_id: str) -> None:
        if (incarnation := self._keeper(mod_id).incarnation) is not None:
            self.replaced.add((mod_id, incarnation.pid))

    def guardian_pid(self) -> int:
        launcher = self._network._running().mods._around.launcher
        assert isinstance(launcher, GuardianLauncher)
        assert launcher._guardian is not None
        return launcher._guardian.pid

    def _keeper(self, mod_id: str) -> Keeper:
        keeper = self._network._running().mods.find(mod_id)
        assert keeper is not None
        return keeper

    # -- who watches

    async def _tend(self, mod_id: str) -> None:
        """Somebody who brings a mod back that has given up."""
        while True:
            await asyncio.sleep(LOOK)
            if self._network.get_loaded_mods()[mod_id]["state"] in ("quarantined", "failed", "stopped"):
                await asyncio.sleep(REST)
                self.revived += (await self._network.restart_mod(mod_id)).success

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            self._collect()

    def _collect(self) -> None:
        """A mod keeps its newest reports only."""
        for mod_id in MODS:
            for report in self._keeper(mod_id).crashes:
                self._ends.setdefault((mod_id, report.incarnation), End.of(report))


SIGNALS = {
    "kill_worker": signal.SIGKILL,
    "stop_worker": signal.SIGSTOP,
    "terminate_worker": signal.SIGTERM,
    "kill_warden": signal.SIGKILL,
    "kill_guardian": signal.SIGKILL,
    "stop_guardian": signal.SIGSTOP,
}
