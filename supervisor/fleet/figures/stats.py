"""Reads the figures of a network into read models, for people and programs.

Everything is read from memory: counters, and samples that are at most seconds old.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Protocol, TypeVar

from ....ipc.partition import SOURCE
from ...agents import Agent, AgentRegistry
from ...calls import ModCounters, NetworkCounters
from ...config import NetworkConfig
from ...journal import Journal
from ...lifecycle import Keeper, State
from ...limits import ProcessSample, limits_stats
from ...process import CrashReport
from ..commands.autoreload import Autoreload
from ..mods.workers import Mod, pids_of
from ..read_models import (
    AgentEntry,
    Health,
    LastCrash,
    LoadedMod,
    LoadedMods,
    ModDescription,
    ModHealth,
    ModStats,
    NetworkStats,
    Reach,
    Readiness,
    ReadModel,
    Resources,
    SupervisorStats,
    Traffic,
    Transport,
    UnreadyMod,
    WorkerStats,
    latencies,
)
from ..registry.registry import ModRegistry
from .monitor import ResourceMonitor

T = TypeVar("T", bound=ReadModel)


class Running(Protocol):
    """The parts of a running network that figures are read from."""

    @property
    def agents(self) -> AgentRegistry: ...
    @property
    def mods(self) -> ModRegistry: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def monitor(self) -> ResourceMonitor: ...
    @property
    def autoreload(self) -> Autoreload: ...


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network as figures are read from it, whether it runs or not.

    Attributes:
        started_at: Unix seconds; ``uptime``: seconds, 0 unless it runs.
        port: the TCP port it listens on, or None.
        running: None unless it runs.
        output_lost: messages that could not be written to stdout and stderr.
    """

    config: NetworkConfig
    counters: NetworkCounters
    started_at: float
    uptime: float
    port: int | None
    running: Running | None
    output_lost: int = 0

    @property
    def mods(self) -> Iterable[Mod]:
        return () if self.running is None else self.running.mods

    @property
    def agent_count(self) -> int:
        return 0 if self.running is None else len(self.running.agents)


# -- the network


def network_stats(network: NetworkView) -> NetworkStats:
    """Return everything that is counted and measured."""
    running, loaded = network.running, loaded_mods(network.mods)
    return NetworkStats(
        network_id=network.config.network_id,
        network_name=network.config.name,
        is_running=running is not None,
        started_at=network.started_at,
        uptime_seconds=network.uptime,
        agent_count=network.agent_count,
        channel_count=len(running.agents.channels()) if running is not None else 0,
        events=replace(network.counters),
        supervisor=supervisor_stats(network),
        journal=running.journal.stats() if running is not None else {},
        spares=asdict(running.mods.spares.counts) if running is not None else {},
        dynamic_mods=_dynamic_mods(loaded),
        mods=all_mod_stats(running) if running is not None else {},
        families=running.mods.families.stats() if running is not None else {},
    )


def supervisor_stats(network: NetworkView) -> SupervisorStats:
    """Return what the supervisor's own process uses."""
    sample = network.running.monitor.of(os.getpid()) if network.running is not None else None
    return SupervisorStats(os.getpid(), resources(sample), network.output_lost)


def health(network: NetworkView) -> Health:
    """Return what anybody may see of a network."""
    # The transport names no host: it would override the address by which the caller found us.
    transports = (Transport("http", {"port": network.port}),) if network.port is not None else ()
    return Health(
        network_id=network.config.network_id,
        network_name=network.config.name,
        is_running=network.running is not None,
        uptime_seconds=network.uptime,
        topology_mode="centralized",
        transports=transports,
        manifest_transport="http",
        recommended_transport="http",
        agent_count=network.agent_count,
        max_connections=network.config.agents.max_agents,
        mods=tuple(ModHealth(mod.config.path, mod.mod_id, mod.state is State.READY) for mod in network.mods),
    )


def readiness(network: NetworkView) -> Readiness:
    """Return whether a network takes events and every mod marked ``required`` serves."""
    unready = [mod for mod in network.mods if mod.config.required and mod.state is not State.READY]
    return Readiness(network.running is not None, tuple(UnreadyMod(mod.mod_id, str(mod.state)) for mod in unready))


def agent_directory(agents: Iterable[Agent]) -> dict[str, AgentEntry]:
    """Return the registered agents by id."""
    return {agent.agent_id: AgentEntry(_capabilities(agent), agent.last_seen_at) for agent in agents}


def _capabilities(agent: Agent) -> list[Any]:
    found = agent.metadata.get("capabilities")  # the agent chooses its metadata: it may be of any type
    return found if isinstance(found, list) else []


# -- mods


def loaded_mods(mods: Iterable[Mod]) -> dict[str, LoadedMod]:
    """Return the loaded mods in short, by id, in load order."""
    return {mod.mod_id: _loaded(mod) for mod in mods}


def _dynamic_mods(mods: dict[str, LoadedMod]) -> LoadedMods:
    """Count the mods that came to serve; ``details`` has the others too, with what their state is."""
    loaded = tuple(mod_id for mod_id, mod in mods.items() if mod.state not in (State.STARTING, State.FAILED))
    return LoadedMods(len(loaded), loaded, mods)


def _loaded(mod: Mod) -> LoadedMod:
    pids = pids_of(mod)
    return LoadedMod(
        mod_id=mod.mod_id,
        mod_path=mod.config.path,
        loaded_at=mod.loaded_at,
        state=str(mod.state),
        pid=pids["pid"],
        pids=pids.get("pids"),
        version=mod.manifest.version if mod.manifest is not None else None,
    )


def describe_mods(mods: Iterable[Mod]) -> list[ModDescription]:
    """Return the loaded mods as agents see them, in load order."""
    return [
        ModDescription(
            name=mod.config.path,
            mod_id=mod.mod_id,
            description=mod.manifest.description if mod.manifest is not None else "",
            version=mod.manifest.version if mod.manifest is not None else "",
            requires_adapter=False,
            capabilities=tuple(mod.manifest.patterns) if mod.manifest is not None else (),
            state=str(mod.state),
        )
        for mod in mods
    ]


def all_mod_stats(running: Running) -> dict[str, ModStats]:
    """Return the figures of every loaded mod, by id, in load order."""
    needed = running.mods.dependents.dependents()
    return {mod.mod_id: one_mod_stats(mod, running, needed.get(mod.mod_id, ())) for mod in running.mods}


def one_mod_stats(mod: Mod, running: Running, required_by: Iterable[str] | None = None) -> ModStats:
    """Return the figures of one of a network's mods."""
    return mod_stats(
        mod,
        running.monitor,
        reach=running.mods.families.stats_of(mod),
        watched_files=running.autoreload.count_of(mod.mod_id),
        required_by=running.mods.dependents.required_by(mod.mod_id) if required_by is None else required_by,
    )


def mod_stats(
    mod: Mod, monitor: ResourceMonitor, *, reach: Reach, watched_files: int | None, required_by: Iterable[str]
) -> ModStats:
    """Return the figures of one mod."""
    workers = tuple(_worker_stats(keeper, monitor) for keeper in mod.keepers)
    if isinstance(mod, Keeper):
        return ModStats(workers[0], reach, watched_files, tuple(required_by))
    if not workers:
        return ModStats(_elsewhere(mod), reach, None, tuple(required_by))
    together = _together(mod, workers)
    return ModStats(together, reach, watched_files, tuple(required_by), mod.config.partition_by or SOURCE, workers)


def _elsewhere(mod: Mod) -> WorkerStats:
    """Return what is known here of a mod that another node runs. Its traffic is what this node has sent there."""
    config, manifest, counters = mod.config, mod.manifest, mod.counters
    return WorkerStats(
        mod_id=mod.mod_id,
        mod_path=config.path,
        version=manifest.version if manifest is not None else None,
        patterns=tuple(manifest.patterns) if manifest is not None else (),
        observes=tuple(manifest.observes) if manifest is not None else (),
        state=str(mod.state),
        pid=None,
        trial_pid=None,
        incarnation=None,
        uptime=None,
        loaded_at=mod.loaded_at,
        start_ms=None,
        last_error=mod.last_error,
        requires=tuple(map(str, config.requires)),
        optional=tuple(map(str, config.optional)),
        dependency=config.dependency,
        host=config.host,
        permissions=tuple(sorted(config.permissions)),
        speak_for=tuple(sorted(config.speak_for)),
        resources=Resources(),
        limits=limits_stats(config.limits, {}, None),
        sandbox=None,
        traffic=_traffic_of(counters),
        restarts=0,
        recycled=0,
        rollbacks=0,
        last_rollback=None,
        on_probation_after=None,
        quarantined=None,
        crashes=0,
        last_crash=None,
        log_write_errors=0,
    )


def _together(mod: Mod, workers: Sequence[WorkerStats]) -> WorkerStats:
    """Add up the workers of a mod.

    What cannot be added is that of the first worker that is not ready."""
    shown = next((worker for worker in workers if worker.state != str(State.READY)), workers[0])
    counters = mod.counters
    used = _sums(Resources, [worker.resources for worker in workers])
    p50, p99 = latencies(counters.latency)
    return replace(
        shown,
        mod_id=mod.mod_id,
        pid=None,
        trial_pid=None,
        resources=replace(used, sampled_at=workers[0].resources.sampled_at),
        traffic=replace(_sums(Traffic, [worker.traffic for worker in workers]), latency_p50_ms=p50, latency_p99_ms=p99),
        restarts=counters.restarts,
        recycled=counters.recycled,
        rollbacks=counters.rollbacks,
        crashes=sum(worker.crashes for worker in workers),
        log_write_errors=sum(worker.log_write_errors for worker in workers),
    )


def _sums(kind: type[T], parts: Sequence[T]) -> T:
    """Add up each figure that any of ``parts`` has; the others are None."""
    columns = {
        each.name: [value for part in parts if (value := getattr(part, each.name)) is not None] for each in fields(kind)
    }
    return kind(**{name: sum(values) if values else None for name, values in columns.items()})


def _worker_stats(worker: Keeper, monitor: ResourceMonitor) -> WorkerStats:
    incarnation, counters, manifest = worker.incarnation, worker.counters, worker.manifest
    return WorkerStats(
        mod_id=worker.mod_id,
        mod_path=worker.config.path,
        version=manifest.version if manifest is not None else None,
        patterns=tuple(manifest.patterns) if manifest is not None else (),
        observes=tuple(manifest.observes) if manifest is not None else (),
        state=str(worker.state),
        pid=incarnation.pid if incarnation is not None else None,
        trial_pid=worker.beside.pid,
        incarnation=incarnation.number if incarnation is not None else None,
        uptime=round(incarnation.uptime, 3) if incarnation is not None else None,
        loaded_at=worker.loaded_at,
        start_ms=worker.start_ms,
        last_error=worker.last_error,
        requires=tuple(map(str, worker.config.requires)),
        optional=tuple(map(str, worker.config.optional)),
        dependency=worker.config.dependency,
        host=worker.config.host,
        permissions=tuple(sorted(worker.config.permissions)),
        speak_for=tuple(sorted(worker.config.speak_for)),
        resources=resources(monitor.of(incarnation.pid) if incarnation is not None else None),
        limits=limits_stats(
            worker.config.limits,
            manifest.enforced if manifest is not None else {},
            incarnation.limits_in_force.cgroup if incarnation is not None else None,
        ),
        sandbox=incarnation.sandbox if incarnation is not None else None,
        traffic=_traffic(worker),
        restarts=counters.restarts,
        recycled=counters.recycled,
        rollbacks=counters.rollbacks,
        last_rollback=worker.last_rollback,
        on_probation_after=worker.probation.version if worker.probation is not None else None,
        quarantined=worker.quarantined,
        crashes=worker.crashes.total,
        last_crash=_in_short(worker.crashes.last),
        log_write_errors=worker.log.write_errors,
    )


def _traffic(worker: Keeper) -> Traffic:
    return replace(
        _traffic_of(worker.counters),
        in_flight=worker.caller.in_flight_count,
        queue_depth=worker.caller.depth,
        durable_under_way=len(worker.durable),
        observe_queue_depth=len(worker.copies),
    )


def _traffic_of(counters: ModCounters) -> Traffic:
    p50, p99 = latencies(counters.latency)
    return Traffic(
        events_in=counters.events_in,
        answered=counters.answered,
        passed=counters.passed,
        failed=counters.failed,
        timeouts=counters.timeouts,
        overloaded=counters.overloaded,
        redelivered=counters.redelivered,
        dead_lettered=counters.dead_lettered,
        events_out=counters.events_out,
        observed=counters.observed,
        observe_dropped=counters.observe_dropped,
        in_flight=0,
        queue_depth=0,
        durable_under_way=0,
        observe_queue_depth=0,
        latency_p50_ms=p50,
        latency_p99_ms=p99,
    )


def resources(sample: ProcessSample | None) -> Resources:
    """Return what a process tree uses; every figure is None before its first sample."""
    return Resources() if sample is None else Resources(*(getattr(sample, each.name) for each in fields(Resources)))


def _in_short(report: CrashReport | None) -> LastCrash | None:
    if report is None:
        return None
    return LastCrash(report.at, str(report.cause), report.detail, report.uptime)
