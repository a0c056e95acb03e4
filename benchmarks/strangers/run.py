"""Run a network, honest agents, and one attack after the other."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from ..served import cpu_seconds, served
from .attacks import ATTACKS
from .honest import PASSWORD, Honest, Notes, crowd

CROWD = 1000
MEMORY_MB = 250.0  # that an attack may cost: http.bodies, connections, guests
JOURNAL_MB = 30.0
HEALTH_S = 1.0
TIMES = 3.0  # the p99 of honest agents, compared with a quiet network
SHORTEST_MS = 3.0  # a quiet p99 below it counts as this: no network is attacked on an idle machine

MOD = """
from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Echo(BaseMod):
    @mod_event_handler("test.ping")
    async def ping(self, event):
        return EventResponse(True, data={})
"""
NETWORK = f"""
network: {{name: strangers, port: 0}}
mods: [./echo]
agent_groups: {{members: {{password_hash: {PASSWORD}}}}}
"""


@dataclass
class Phase:
    """What one attack did to the network and to honest agents.

    Attributes:
        network_cpu: parts of a core that the network's process took.
        attacker_cpu: parts of a core that the attack took, which the others did not have.
        core_wait: parts of the time in which the network's event loop could run and had no core. On a
            quiet machine it is small; where it is not, the latencies are those of the machine.
    """

    attack: str
    refused: int
    p50_ms: float
    p99_ms: float
    health_ms: float
    memory_mb: float
    descriptors: int
    journal_mb: float
    network_cpu: float = 0.0
    attacker_cpu: float = 0.0
    core_wait: float = 0.0


@dataclass
class Summary:
    """All phases; the first is a quiet one."""

    phases: list[Phase] = field(default_factory=list)
    crowd: int = CROWD
    problems: list[str] = field(default_factory=list)


async def run(folder: Path, seconds: float, names: list[str]) -> Summary:
    summary = Summary()
    async with _network(folder) as (process, port):
        honest = Honest(port)
        working = asyncio.create_task(honest.run())
        await asyncio.sleep(2)
        try:
            for name in ["quiet", *names]:
                summary.phases.append(await _phase(name, honest, process, port, folder, seconds))
                _judge(summary, honest.notes)
                await asyncio.sleep(1)
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
        refused = await crowd(port, CROWD)
        if refused:
            summary.problems.append(f"{len(refused)} of {CROWD} behind one proxy were refused, such as {refused[0]}")
    return summary


def _network(folder: Path) -> AbstractAsyncContextManager[tuple[psutil.Process, int]]:
    (folder / "mods" / "echo").mkdir(parents=True)
    (folder / "mods" / "echo" / "mod.py").write_text(MOD)
    return served(folder, NETWORK)


async def _phase(name: str, honest: Honest, process: psutil.Process, port: int, folder: Path, seconds: float) -> Phase:
    print(f"{name} …", flush=True)
    before, journal = process.memory_info().rss, _journal(folder)
    honest.notes = notes = Notes()
    attacker = None
    if name != "quiet":
        command = [sys.executable, "-m", "benchmarks.strangers.attacks", name, str(port)]
        attacker = await asyncio.create_subprocess_exec(*command)
    most, descriptors, ends = before, 0, time.monotonic() + seconds
    taken, waited = cpu_seconds(process), _waited(process.pid)
    while time.monotonic() < ends:
        await asyncio.sleep(0.1)
        most, descriptors = max(most, process.memory_info().rss), max(descriptors, process.num_fds())
    taken, waited, attacked = cpu_seconds(process) - taken, _waited(process.pid) - waited, 0.0
    if attacker is not None:
        attacked = cpu_seconds(psutil.Process(attacker.pid))
        attacker.kill()
        await attacker.wait()
    return Phase(
        attack=name,
        refused=len(notes.refused),
        p50_ms=_quantile(notes.latencies, 0.5),
        p99_ms=_quantile(notes.latencies, 0.99),
        health_ms=_quantile(notes.health, 1.0),
        memory_mb=(most - before) / 1e6,
        descriptors=descriptors,
        journal_mb=(_journal(folder) - journal) / 1e6,
        network_cpu=taken / seconds,
        attacker_cpu=attacked / seconds,
        core_wait=waited / seconds,
    )


def _waited(pid: int) -> float:
    """Return for how many seconds the main thread of a process could run and had no core; 0 if no Linux tells."""
    try:
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def _journal(folder: Path) -> int:
    return sum(file.stat().st_size for file in (folder / ".modvisor").glob("*.db*"))


def _quantile(seconds: list[float], part: float) -> float:
    found = sorted(seconds)
    return found[min(len(found) - 1, int(part * len(found)))] * 1000 if found else float("inf")


def _judge(summary: Summary, notes: Notes) -> None:
    phase, quiet = summary.phases[-1], max(SHORTEST_MS, summary.phases[0].p99_ms)
    told = {
        f"{phase.refused} requests of honest agents were refused, such as {notes.refused[:1]}": phase.refused > 0,
        f"the p99 of honest agents grew {phase.p99_ms / quiet:.1f} times": phase.p99_ms > TIMES * quiet,
        f"/api/health waited {phase.health_ms:.0f} ms": phase.health_ms > HEALTH_S * 1000,
        f"the memory grew by {phase.memory_mb:.0f} MB": phase.memory_mb > MEMORY_MB,
        f"the journal grew by {phase.journal_mb:.0f} MB": phase.journal_mb > JOURNAL_MB,
    }
    summary.problems += [f"{phase.attack}: {text}" for text, is_so in told.items() if is_so]


ALL = list(ATTACKS)
