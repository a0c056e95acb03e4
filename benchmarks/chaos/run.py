"""Run a network with twenty mods: a quiet phase, the chaos, the recovery, the audit."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
import uuid
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio.to_thread

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.lifecycle.states import State

from ..census import Census, Marked, memory
from . import audit
from .diaries import Diaries
from .ledger import Ledger
from .load import Load
from .mischief import INSIDE
from .outside import Outside
from .players import MAD, MODS, PLAYER, STEADY, settings_of
from .schedule import Act, plan

RATE = 50.0  # events per second for each mod
WARM_UP, QUIET = 0.1, 0.25  # shares of the time; the rest is chaos
LONGEST_WARM_UP = 10.0
GOAL = 2.0  # times the p99 of the quiet phase
RECOVERY = 60.0  # seconds until everything must be answered and every mod ready
SETTLING = 15.0  # seconds until the supervisor must hold only what it held before
SAMPLE = 0.25  # seconds between two looks at its memory

MODS_FOLDER = Path(__file__).parent / "mods"


@dataclass(slots=True)
class Summary:
    """The result of a run. Times are in milliseconds, sizes in megabytes.

    Attributes:
        problems: broken promises, in words; a run without problems has passed.
        outcomes: how the events for the steady and for the mad mods ended.
        memory: of the supervisor in the second and the last third of the chaos.
        left: what it held after everything was unloaded and had not held before.
    """

    seed: int
    seconds: float
    problems: list[str] = field(default_factory=list)
    sent: int = 0
    late: int = 0
    retried: int = 0
    dead_letters: int = 0
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    causes: dict[str, int] = field(default_factory=dict)
    restarts: int = 0
    revived: int = 0
    latency: dict[str, dict[str, float]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    left: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Return the p99 of the steady mods in the chaos, divided by the p99 of the quiet phase."""
        return self.latency["chaos"]["p99_ms"] / self.latency["quiet"]["p99_ms"]

    def say(self, kind: str, problems: Iterator[str]) -> None:
        """Note what is wrong, up to a few problems of each kind."""
        found = list(problems)
        self.problems += [f"{kind}: {problem}" for problem in found[: audit.SHOWN]]
        if len(found) > audit.SHOWN:
            self.problems.append(f"{kind}: ... and {len(found) - audit.SHOWN} more")


async def run(seed: int, seconds: float, storage: Path) -> Summary:
    """Do a whole run. `storage` is an empty folder for all that it writes."""
    summary = Summary(seed, seconds)
    with _mark() as mark, _listening(summary):
        marked = Marked(mark)
        await _Run(summary, storage, mark, marked).go()
        summary.say("processes", (f"{pid} ({name}) is there after the end" for pid, name in _alive(marked)))
    return summary


class _Run:
    def __init__(self, summary: Summary, storage: Path, mark: str, marked: Marked) -> None:
        self._summary = summary
        self._marked = marked
        config = {
            # The players note their pids and turn on their wardens: in a cell they could do neither.
            "network": {"name": "chaos", "storage": str(storage), "sandbox": "off"},
            "agents": {"expire_after": None, "inbox_size": 100_000},
        }
        self._network = AgentNetwork.from_config(config, base_dir=MODS_FOLDER)
        self._ledger = Ledger(int(2 * RATE * len(MODS) * summary.seconds) + 10_000)
        self._load = Load(self._network, self._ledger, summary.seed, RATE)
        self._outside = Outside(self._network, self._load, mark)
        self._samples = array("q")

    async def go(self) -> None:
        async with self._network:
            await self._load.open()
            await self._load_and_unload_one()
            before = Census.take()
            await asyncio.gather(*(self._load_mod(mod_id) for mod_id in MODS))
            acts = await self._phases()
            await self._recover(acts)
            await self._audit(acts)
            await self._unload_all()
            await self._compare(before)
            await self._load.close()

    async def _load_and_unload_one(self) -> None:
        """Use everything once, so that lazy parts of the network exist before the count."""
        await self._load_mod("steady0")
        assert (await self._network.unload_mod("steady0")).success

    async def _load_mod(self, mod_id: str) -> None:
        loaded = await self._network.load_mod(PLAYER, mod_id=mod_id, **settings_of(mod_id))
        assert loaded.success, loaded

    # -- the phases

    async def _phases(self) -> list[Act]:
        seconds = self._summary.seconds
        warm_up, quiet = min(WARM_UP * seconds, LONGEST_WARM_UP), QUIET * seconds
        chaos = seconds - warm_up - quiet
        acts = plan(self._summary.seed, MAD, chaos)
        await self._load.run("warm-up", warm_up)
        gc.collect()
        gc.freeze()  # as `modvisor run` does once it serves
        await self._load.run("quiet", quiet)
        await self._outside.open()
        sampling = asyncio.create_task(self._sample())
        await asyncio.gather(self._load.run("chaos", chaos), self._outside.carry_out(acts))
        sampling.cancel()
        return acts

    async def _sample(self) -> None:
        while True:
            self._samples.append(memory())
            await asyncio.sleep(SAMPLE)

    async def _recover(self, acts: list[Act]) -> None:
        """Wait until all is answered, what must end has ended, and every mod serves again."""
        if not await self._outside.commanded(RECOVERY):
            self._summary.problems.append("a command of the operator did not end")
        await self._load.settled(RECOVERY)
        end = time.monotonic() + RECOVERY
        self._diaries = await self._read_diaries()
        while any(audit.unreported(acts, self._diaries, self._outside)) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(1.0)
        await asyncio.gather(*(self._comes_back(mod_id) for mod_id in MODS))
        await self._outside.close()
        self._diaries = await self._read_diaries()

    async def _read_diaries(self) -> Diaries:
        folders = {mod_id: self._network.state_dir.storage_of(mod_id) for mod_id in MODS}
        return await anyio.to_thread.run_sync(Diaries, folders)

    async def _comes_back(self, mod_id: str) -> None:
        end = time.monotonic() + RECOVERY
        answer = None
        while time.monotonic() < end:
            event = Event(f"{mod_id}.ping", "agent:a0", f"mod:{mod_id}", timeout=5.0)
            answer = await self._network.process_event(event)
            if answer.success and self._network.get_loaded_mods()[mod_id]["state"] == State.READY:
                self._compare_tables(answer.data["acts"])
                return
            await asyncio.sleep(0.1)
        self._summary.problems.append(f"{mod_id} did not come back: {answer}")

    def _compare_tables(self, acts: list[str]) -> None:
        known = {mischief.act or name for name, mischief in INSIDE.items()}
        assert known == set(acts), f"mischief.py and acts.py differ: {known ^ set(acts)}"

    # -- the audit

    async def _audit(self, acts: list[Act]) -> None:
        summary, ledger, network, diaries = self._summary, self._ledger, self._network, self._diaries
        letters = {
            letter["letter_id"]: letter["event"]["event_id"] for letter in await network.dead_letters.list(limit=10**6)
        }
        summary.say("events", audit.events(ledger, self._load, letters))
        summary.say("handling", audit.handling(ledger, diaries))
        summary.say("order", audit.order(ledger, diaries))
        summary.say("checkpoints", audit.checkpoints(diaries, self._outside))
        summary.say("causes", audit.causes(acts, diaries, self._outside))
        summary.say("causes", audit.unreported(acts, diaries, self._outside))
        summary.say("memory", audit.memory(list(self._samples)))
        kept = network.get_network_stats()["journal"]["durable_events"]
        if kept:
            summary.problems.append(f"{kept} durable events are kept though all were answered")
        self._count(letters)

    def _count(self, letters: dict[int, str]) -> None:
        summary, outside = self._summary, self._outside
        summary.sent, summary.late, summary.retried = self._ledger.sent, self._ledger.late, self._load.retried
        summary.dead_letters = len(letters)
        summary.outcomes = {kind: dict(self._ledger.counts(mods)) for kind, mods in (("steady", STEADY), ("mad", MAD))}
        summary.done, summary.missed = dict(outside.done), dict(outside.missed)
        summary.causes = dict(Counter(str(end.cause) for end in outside.ends))
        summary.revived = outside.revived
        mods = self._network.get_network_stats()["mods"]
        summary.restarts = sum(mod["restarts"] for mod in mods.values())
        summary.latency = {phase: _quantiles(times) for phase, times in self._load.latencies.items()}
        second, last = audit.thirds(list(self._samples))
        summary.memory = {"second_third_MB": round(second / 1e6, 1), "last_third_MB": round(last / 1e6, 1)}

    # -- the end

    async def _unload_all(self) -> None:
        for response in await asyncio.gather(*(self._network.unload_mod(mod_id) for mod_id in MODS)):
            if not response.success:
                self._summary.problems.append(f"unload: {response.message}")

    async def _compare(self, before: Census) -> None:
        """Check that the supervisor holds what it held before, and that the guardian is idle."""
        end = time.monotonic() + SETTLING
        while (left := self._left(before)) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        self._summary.left = Census.take().more_than(before)
        self._summary.say("left over", iter(left))

    def _left(self, before: Census) -> list[str]:
        guardian = self._outside.guardian_pid()
        held = [f"{kind}: {what}" for kind, what in Census.take().more_than(before).items() if what]
        return held + [text for pid, text in audit.processes(self._marked, self._diaries) if pid != guardian]


def _quantiles(times: array[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_ms": round(ordered[len(ordered) // 2] * 1e3, 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1e3, 3),
        "max_ms": round(ordered[-1] * 1e3, 3),
    }


@contextmanager
def _mark() -> Iterator[str]:
    """Mark the processes of this run by a variable: workers inherit what begins with PYTHON."""
    name, value = "PYTHONCHAOS", str(uuid.uuid4())
    os.environ[name] = value
    try:
        yield f"{name}={value}"
    finally:
        del os.environ[name]


def _alive(marked: Marked) -> list[tuple[int, str]]:
    end = time.monotonic() + 2.0
    while (alive := marked.alive()) and time.monotonic() < end:
        time.sleep(0.05)
    return list(alive.items())


@contextmanager
def _listening(summary: Summary) -> Iterator[None]:
    """Note errors inside the supervisor as problems, though no sender is told of them."""
    loop = asyncio.get_running_loop()

    def complain(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        summary.problems.append(f"in the loop: {context['message']}: {context.get('exception')!r}")

    class Ears(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                summary.problems.append(f"in the log: {record.getMessage()}: {record.exc_info[1]!r}")

    ears, former = Ears(), loop.get_exception_handler()
    loop.set_exception_handler(complain)
    logging.getLogger("modvisor").addHandler(ears)
    try:
        yield
    finally:
        logging.getLogger("modvisor").removeHandler(ears)
        loop.set_exception_handler(former)
