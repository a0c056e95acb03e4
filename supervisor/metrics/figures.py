"""The figures of a network at one moment, copied so that a thread can make text of them.

Copying is all that a scrape costs the event loop, and it is done in turns.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import anyio.lowlevel

from ...ipc import __version__
from ..agents import Agent
from ..calls import ModCounters, NetworkCounters
from ..config import LimitsConfig
from ..fleet import Mod, NetworkView
from ..journal import Journal
from ..lifecycle import Keeper, State
from ..limits import ProcessSample

WORKERS_AT_ONCE, AGENTS_AT_ONCE = 20, 500
"""How many are copied in one turn of the loop: each such turn takes less than a millisecond."""


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """One worker of a loaded mod.

    Attributes:
        mod: the mod's id; ``worker``: its number among the workers of the mod, from 0.
        counters: a copy.
        pid, uptime, sample: None while no process serves; ``sample`` also before the first sample.
    """

    mod: str
    worker: str
    state: State
    required: bool
    pid: int | None
    uptime: float | None
    sample: ProcessSample | None
    limits: LimitsConfig
    counters: ModCounters
    in_flight: int
    queue: int
    durable: int
    observe_queue: int
    log_write_errors: int


@dataclass(slots=True)
class InboxFigures:
    """What waits in the inboxes of all agents."""

    agents: int = 0
    connected: int = 0
    events: int = 0
    size: int = 0
    most: int = 0

    def add(self, agent: Agent) -> None:
        held = agent.inbox.held
        self.agents += 1
        self.connected += agent.polling > 0
        self.events += held
        self.size += agent.inbox.size
        self.most = max(self.most, held)


@dataclass(frozen=True, slots=True)
class Figures:
    """A network at one moment.

    Attributes:
        counters: a copy.
        sample: of the network's own process; None before the first sample.
        journal: see `Journal.stats`; empty unless the network runs.
        journal_waiting: changes that wait for the disk.
        connections: of the TCP port, by who holds them.
        dismissed: connections that were closed so that others find a place, by reason.
        traces: spans that were recorded, by what became of them.
        tells_shared: this node tells what all nodes of a cluster know; one of them does.
    """

    name: str
    network_id: str
    version: str
    is_running: bool
    started_at: float
    uptime: float
    counters: NetworkCounters
    pid: int
    sample: ProcessSample | None = None
    output_lost: int = 0
    channels: int = 0
    inboxes: InboxFigures = field(default_factory=InboxFigures)
    journal: Mapping[str, Any] = field(default_factory=dict)
    journal_waiting: int = 0
    connections: Mapping[str, int] = field(default_factory=dict)
    most_connections: int = 0
    dismissed: Mapping[str, int] = field(default_factory=dict)
    traces: Mapping[str, int] = field(default_factory=dict)
    tells_shared: bool = True
    workers: tuple[WorkerFigures, ...] = ()


async def figures_of(view: NetworkView, **more: Any) -> Figures:
    """Copy the figures of a network, in turns.

    Args:
        more: those that the network's view does not have: connections, dismissed, traces.
    """
    running = view.running
    inboxes, workers = InboxFigures(), []
    if running is not None:
        for number, agent in enumerate(list(running.agents), 1):
            inboxes.add(agent)
            if number % AGENTS_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        for number, (mod, index, keeper) in enumerate(_workers(view), 1):
            workers.append(_worker(mod, index, keeper, running.monitor.of))
            if number % WORKERS_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
    return Figures(
        name=view.config.name,
        network_id=view.config.network_id,
        version=__version__,
        is_running=running is not None,
        started_at=view.started_at,
        uptime=view.uptime,
        counters=replace(view.counters),
        pid=os.getpid(),
        sample=None if running is None else running.monitor.of(os.getpid()),
        output_lost=view.output_lost,
        channels=0 if running is None else len(running.agents.channels()),
        inboxes=inboxes,
        **({} if running is None else _of_journal(running.journal)),
        most_connections=view.config.http.connections,
        workers=tuple(workers),
        **more,
    )


def _of_journal(journal: Journal) -> dict[str, Any]:
    return {"journal": journal.stats(), "journal_waiting": journal.waiting}


def _workers(view: NetworkView) -> list[tuple[Mod, int, Keeper]]:
    return [(mod, keeper.config.replica or 0, keeper) for mod in view.mods for keeper in mod.keepers]


def _worker(mod: Mod, index: int, keeper: Keeper, sample_of: Any) -> WorkerFigures:
    incarnation, counters = keeper.incarnation, keeper.counters
    return WorkerFigures(
        mod=mod.mod_id,
        worker=str(index),
        state=keeper.state,
        required=mod.config.required,
        pid=None if incarnation is None else incarnation.pid,
        uptime=None if incarnation is None else incarnation.uptime,
        sample=None if incarnation is None else sample_of(incarnation.pid),
        limits=keeper.config.limits,
        counters=replace(
            counters,
            latency=counters.latency.copy(),
            restarts_by=counters.restarts_by.copy(),
            crashes_by=counters.crashes_by.copy(),
        ),
        in_flight=keeper.caller.in_flight_count,
        queue=keeper.caller.depth,
        durable=len(keeper.durable),
        observe_queue=len(keeper.copies),
        log_write_errors=keeper.log.write_errors,
    )
