"""Agents that send to one another while their processes are killed and started again."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from asyncio.subprocess import Process
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ..served import cpu_seconds
from .audit import Audit, audit
from .diary import Diary
from .member import END, name_of
from .network import network

SETTLED = 30.0  # seconds for the last events to come through
WARM = 0.3  # the part of a run after which the memory counts
GROWN_MB = 20.0


@dataclass
class Soak:
    """What a run came to.

    Attributes:
        killed: agents whose process was killed.
        grown_mb: how much the network's memory grew after it was warm.
    """

    agents: int
    seconds: float
    killed: int = 0
    grown_mb: float = 0.0
    memory_mb: float = 0.0
    cpu: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


async def soak(folder: Path, agents: int, rate: float, seconds: float, kills: int, processes: int) -> Soak:
    """Run so many agents, in so many processes, and kill processes until so many agents have died."""
    summary = Soak(agents, seconds)
    diaries = folder / "diaries"
    diaries.mkdir()
    async with network(folder) as (process, port):
        each = -(-agents // processes)
        crew = [_Crew(port, diaries, at, min(each, agents - at), agents, rate) for at in range(0, agents, each)]
        try:
            for one in crew:
                await one.start()
            await _all_registered(diaries, agents)
            ends = time.time() + seconds
            (diaries / END).write_text(str(ends))
            await _disturb(crew, process, kills, ends, seconds, summary)
            found = await _settled(diaries, agents)
        finally:
            for one in crew:
                await one.kill()
    summary.found = asdict(found)
    _judge(summary, found, rate)
    return summary


class _Crew:
    """A process of some agents."""

    def __init__(self, port: int, diaries: Path, first: int, count: int, of: int, rate: float) -> None:
        self._arguments = [port, diaries, first, count, of, rate]
        self.count = count
        self._process: Process | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "benchmarks.agents.member", *map(str, self._arguments)]
        self._process = await asyncio.create_subprocess_exec(*command)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        if self._process is not None:
            await self._process.wait()

    @property
    def has_failed(self) -> bool:
        return self._process is not None and self._process.returncode is not None


async def _all_registered(folder: Path, agents: int) -> None:
    async with asyncio.timeout(SETTLED + agents / 5):
        while not all(diary.secret for diary in _diaries(folder, agents)):  # noqa: ASYNC110 - as below
            await asyncio.sleep(0.5)


async def _disturb(
    crew: list[_Crew], process: psutil.Process, kills: int, ends: float, seconds: float, summary: Soak
) -> None:
    """Kill and start processes, evenly over the run, and watch the network's memory."""
    begins = time.time()
    rounds = -(-kills // crew[0].count)
    due = [begins + seconds * (0.2 + 0.7 * number / rounds) for number in range(rounds)]
    memory: list[tuple[float, float]] = []
    before = cpu_seconds(process)
    while (now := time.time()) < ends:
        memory.append((now, process.memory_info().rss / 1e6))
        if due and now >= due[0]:
            due.pop(0)
            victim = random.choice(crew)
            await victim.kill()
            summary.killed += victim.count
            await asyncio.sleep(0.2)  # events come while nobody is there
            await victim.start()
        await asyncio.sleep(0.1)
        if any(one.has_failed for one in crew):
            summary.problems.append("a process of agents has ended by itself; its error stands above")
            return
    summary.cpu = (cpu_seconds(process) - before) / seconds
    warm = [mb for when, mb in memory if when > begins + seconds * WARM]
    summary.memory_mb, summary.grown_mb = max(warm), warm[-1] - warm[0]


async def _settled(folder: Path, agents: int) -> Audit:
    """Return what the diaries say when all has come through, or when it has not in `SETTLED` seconds."""
    ends = time.monotonic() + SETTLED
    found = _audit(folder, agents)
    while not found.is_settled and time.monotonic() < ends:
        await asyncio.sleep(1)
        found = _audit(folder, agents)
    return found


def _diaries(folder: Path, agents: int) -> list[Diary]:
    diaries = [Diary(folder / f"{name_of(number)}.diary") for number in range(agents)]
    for diary in diaries:
        diary.close()
    return diaries


def _audit(folder: Path, agents: int) -> Audit:
    return audit(_diaries(folder, agents))


def _judge(summary: Soak, found: Audit, rate: float) -> None:
    told = {
        f"{found.lost} events were lost": found.lost > 0,
        f"{found.repeated} events were handled twice": found.repeated > 0,
        f"{found.unanswered} events were not answered": found.unanswered > 0,
        f"agents were told of {found.told} lost events": found.told > 0,
        f"only {found.sent} events were sent": found.sent < 0.5 * rate * summary.seconds,
        f"the memory grew by {summary.grown_mb:.1f} MB": summary.grown_mb > GROWN_MB,
    }
    summary.problems += [text for text, is_so in told.items() if is_so]
