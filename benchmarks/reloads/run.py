"""Run a quiet phase, then reload after reload under the same load, then the audit."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modvisor.mods import partition_of
from modvisor.supervisor import AgentNetwork, Event, EventResponse

from . import audit
from .load import Load

MODS_FOLDER = Path(__file__).parent / "mods"
QUEUE = 200_000  # events that may wait for the mod: on a slow machine they must be late, not refused
SETTLING = 60.0  # seconds until every event must be answered
GOAL_MS = 20.0  # goal for the p99 of the pauses, without the mod's own get_state and set_state


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do.

    Attributes:
        rate: events per second.
        quiet: seconds of the quiet phase.
        padding: bytes of further state.
        workers: workers of the mod; None for a mod with one worker for all sources.
    """

    reloads: int = 100
    rate: float = 5000.0
    agents: int = 50
    swap: bool = False
    durable: bool = False
    quiet: float = 2.0
    padding: int = 0
    workers: int | None = None


@dataclass(slots=True)
class Summary:
    """The result of a run. Times are in milliseconds.

    Attributes:
        problems: broken promises, in words; a run without problems has passed.
        pauses: pause of each reload; `own`: the share of the mod's get_state and set_state.
        queued: events that waited at the end of each pause.
        rates: events per second that were sent, by phase.
    """

    plan: Plan
    problems: list[str] = field(default_factory=list)
    sent: int = 0
    late: int = 0
    worst_ms: float = 0.0
    seconds: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)
    latency: dict[str, dict[str, float]] = field(default_factory=dict)
    pauses: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    state_bytes: int = 0

    @property
    def goal_ms(self) -> float:
        return GOAL_MS + (quantiles(self.own)["p99_ms"] if self.own else 0.0)


async def run(plan: Plan, storage: Path) -> Summary:
    """Do a whole run. `storage` is an empty folder for all that it writes."""
    summary = Summary(plan)
    config = {"network": {"name": "reloads", "storage": str(storage)}, "agents": {"expire_after": None}}
    network = AgentNetwork.from_config(config, base_dir=MODS_FOLDER)
    async with network:
        load = Load(network, plan.agents, plan.rate)
        await load.open()
        loaded = await network.load_mod("./counter_v1", **_entry(plan))
        assert loaded.success, loaded
        await load.run("quiet", plan.quiet)
        gc.collect()
        gc.freeze()  # as `modvisor run` does once it serves
        try:
            await _reload_under_load(network, load, summary)
        finally:
            gc.unfreeze()
        await _audit(network, load, summary)
    return summary


def _entry(plan: Plan) -> dict[str, Any]:
    return {
        "config": {"padding": plan.padding},
        "durable": plan.durable,
        "limits": {"queue": QUEUE},
        "workers": plan.workers,
    }


async def _reload_under_load(network: AgentNetwork, load: Load, summary: Summary) -> None:
    sending = asyncio.create_task(load.run("reloads"))
    try:
        for number in range(summary.plan.reloads):
            response = await _reload(network, summary.plan, number)
            if not response.success:
                summary.problems.append(f"reload {number + 1} failed: {response.message}")
                break
            summary.pauses.append(response.data["pause_ms"])
            summary.queued.append(response.data["queued"])
            summary.state_bytes = response.data["state_bytes"]
    finally:
        load.end()
        await sending


async def _reload(network: AgentNetwork, plan: Plan, number: int) -> EventResponse:
    if not plan.swap:
        return await network.reload_mod("counter_v1")
    here, there = ("counter_v1", "counter_v2") if number % 2 == 0 else ("counter_v2", "counter_v1")
    return await network.swap_mod(here, f"./{there}", **_entry(plan))


async def _audit(network: AgentNetwork, load: Load, summary: Summary) -> None:
    unanswered = await load.settled(SETTLING)
    told = [
        await network.process_event(Event("count.tell", source)) for source in _one_of_each(summary.plan, load.sources)
    ]
    mods = network.get_network_stats()["mods"]
    summary.problems += audit.events(load.sent, load.answered, load.failed, unanswered)
    summary.problems += load.wrong
    if all(answer.success for answer in told) and len(mods) == 1:
        (stats,) = mods.values()
        summary.problems += audit.counts(load.sent, audit.together(answer.data for answer in told))
        for answer, worker in zip(told, stats.get("workers", [stats]), strict=True):
            summary.problems += audit.handovers(len(summary.pauses), answer.data, worker)
        summary.own = [max(times) for times in zip(*(answer.data["spent"] for answer in told), strict=True)]
    else:
        summary.problems.append(f"the mod does not tell its counts (loaded: {', '.join(mods)}): {told}")
    summary.sent, summary.late, summary.worst_ms = load.sent.total(), load.late, load.worst * 1000
    summary.seconds = load.seconds["reloads"]
    summary.rates = {phase: load.reached(phase) for phase in load.seconds}
    summary.latency = {phase: quantiles(seconds * 1000 for seconds in times) for phase, times in load.latencies.items()}


def _one_of_each(plan: Plan, sources: list[str]) -> list[str]:
    """Return a source for each worker, in order."""
    workers = plan.workers or 1
    found = {partition_of(source, workers): source for source in sources}
    return [found[index] for index in range(workers)]


def quantiles(times: Iterable[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50_ms": ordered[len(ordered) // 2],
        "p99_ms": ordered[int(len(ordered) * 0.99)],
        "max_ms": ordered[-1],
    }
