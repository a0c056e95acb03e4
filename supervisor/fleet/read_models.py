"""What callers see of a network: frozen figures of one moment.

`stats` and `families` make them. Callers turn them into plain data with `to_dict` at the edge,
where a response or a page needs it. The keys come in the order of the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ..calls import LatencyHistogram, NetworkCounters


@dataclass(frozen=True, slots=True)
class ReadModel:
    """Figures of one moment."""

    def to_dict(self) -> dict[str, Any]:
        """Return the plain form, as JSON has it."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, ReadModel):
        return value.to_dict()
    if isinstance(value, NetworkCounters):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


# -- one worker


@dataclass(frozen=True, slots=True)
class Resources(ReadModel):
    """What a process tree uses; every figure is None before its first sample.

    The fields are those of `ProcessSample`. Sizes are in bytes.
    """

    cpu_percent: float | None = None
    rss: int | None = None
    uss: int | None = None
    threads: int | None = None
    open_files: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    children: int | None = None
    sampled_at: float | None = None


@dataclass(frozen=True, slots=True)
class Traffic(ReadModel):
    """The events of a mod or worker: `ModCounters`, what waits and runs now, and latencies."""

    events_in: int
    answered: int
    passed: int
    failed: int
    timeouts: int
    overloaded: int
    redelivered: int
    dead_lettered: int
    events_out: int
    observed: int
    observe_dropped: int
    in_flight: int
    queue_depth: int
    durable_under_way: int
    observe_queue_depth: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None


@dataclass(frozen=True, slots=True)
class LastCrash(ReadModel):
    """A crash report in short. ``at`` is in Unix seconds, ``uptime`` in seconds."""

    at: float
    cause: str
    detail: str
    uptime: float


@dataclass(frozen=True, slots=True)
class WorkerStats(ReadModel):
    """Identity, resources, traffic and restarts of one worker.

    Attributes:
        pid, incarnation, uptime: None while no process serves; ``uptime`` is in seconds.
        trial_pid: of the process that tries suspects beside it; None: there is none.
        host: which framework's mod it is, as its worker says; None: one of modvisor.
        permissions, speak_for: what it may do, also without a line of config.
        limits: by key, the limit and what enforces it; see `limits_stats`.
        sandbox: the profile of its process, what enforces each part, and what is not enforced; None
            while no process serves.
        crashes: how many incarnations have crashed.
    """

    mod_id: str
    mod_path: str
    version: str | None
    patterns: tuple[str, ...]
    observes: tuple[str, ...]
    state: str
    pid: int | None
    trial_pid: int | None
    incarnation: int | None
    uptime: float | None
    loaded_at: float | None
    start_ms: float | None
    last_error: str | None
    requires: tuple[str, ...]
    optional: tuple[str, ...]
    dependency: bool
    host: str | None
    permissions: tuple[str, ...]
    speak_for: tuple[str, ...]
    resources: Resources
    limits: Mapping[str, Mapping[str, float | str | None]]
    sandbox: Mapping[str, Any] | None
    traffic: Traffic
    restarts: int
    recycled: int
    rollbacks: int
    last_rollback: str | None
    on_probation_after: str | None
    quarantined: str | None
    crashes: int
    last_crash: LastCrash | None
    log_write_errors: int


# -- one mod


@dataclass(frozen=True, slots=True)
class Reach(ReadModel):
    """Whose events a mod gets.

    Attributes:
        audience: as the network file has it, or None.
        reaches: the same in words.
        share: of the family's events since its audiences last changed, 0 to 1; None without events.
    """

    family: str
    audience: dict[str, Any] | None
    reaches: str
    share: float | None


@dataclass(frozen=True, slots=True)
class ModStats(ReadModel):
    """One mod of a network.

    Attributes:
        figures: of its worker. With several workers: sums, and the identity of the mod.
        watched_files: how many of its files are watched; None if they are not.
        required_by: ids of the mods that would lack something without this one.
        mixed: what differs between its code and that of other nodes, or its files; None: nothing.
        partition_by, workers: only of a mod with several workers.
    """

    figures: WorkerStats
    reach: Reach
    watched_files: int | None
    required_by: tuple[str, ...]
    mixed: str | None = None
    partition_by: str | None = None
    workers: tuple[WorkerStats, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return everything in one flat dict, as people read it."""
        several = {"partition_by": self.partition_by, "workers": _plain(self.workers)} if self.workers else {}
        return {
            **self.figures.to_dict(),
            **several,
            **self.reach.to_dict(),
            "watched_files": self.watched_files,
            "required_by": list(self.required_by),
            "mixed": self.mixed,
        }


@dataclass(frozen=True, slots=True)
class LoadedMod(ReadModel):
    """A mod in short. ``pid`` is None while there is no process, ``loaded_at`` until it served.

    A mod with several workers has ``pids`` in their order, and no ``pid``.
    """

    mod_id: str
    mod_path: str
    loaded_at: float | None
    state: str
    pid: int | None
    pids: tuple[int | None, ...] | None
    version: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the plain form, with ``pids`` only for a mod with several workers."""
        found = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
        return {key: value for key, value in found.items() if key != "pids" or value is not None}


@dataclass(frozen=True, slots=True)
class ModDescription(ReadModel):
    """A loaded mod as agents see it. ``name`` is its path, ``capabilities`` are its patterns."""

    name: str
    mod_id: str
    description: str
    version: str
    requires_adapter: bool
    capabilities: tuple[str, ...]
    state: str


@dataclass(frozen=True, slots=True)
class Plan(ReadModel):
    """What a command on a mod would do.

    Attributes:
        text: in words.
        affected: ids of the other mods that would notice.
    """

    text: str
    affected: tuple[str, ...]


# -- versions of one mod


@dataclass(frozen=True, slots=True)
class VersionStats(ReadModel):
    """One version of a family, as its siblings are compared; see `Reach` and `Traffic`."""

    mod_id: str
    version: str | None
    state: str
    family: str
    audience: dict[str, Any] | None
    reaches: str
    share: float | None
    events_in: int
    failed: int
    latency_p50_ms: float | None
    latency_p99_ms: float | None


@dataclass(frozen=True, slots=True)
class FamilyStats(ReadModel):
    """The versions of one mod, side by side, in load order.

    Attributes:
        default: id of the version of every source that is in no audience, or None.
        promotions: how many promotions can be rolled back.
    """

    family: str
    default: str | None
    promotions: int
    versions: tuple[VersionStats, ...]


# -- the network


@dataclass(frozen=True, slots=True)
class SupervisorStats(ReadModel):
    """What the supervisor's own process uses.

    Attributes:
        output_lost: messages that it could not write to its stdout and stderr.
    """

    pid: int
    resources: Resources
    output_lost: int

    def to_dict(self) -> dict[str, Any]:
        return {"pid": self.pid, **self.resources.to_dict(), "output_lost": self.output_lost}


@dataclass(frozen=True, slots=True)
class LoadedMods(ReadModel):
    """The loaded mods, in load order: how many, and their ids.

    Attributes:
        details: each mod in short, also one that failed to start.
    """

    count: int
    loaded: tuple[str, ...]
    details: dict[str, LoadedMod]


@dataclass(frozen=True, slots=True)
class NetworkStats(ReadModel):
    """Everything that is counted and measured.

    Attributes:
        started_at: Unix seconds; 0 before the first start.
        journal: see `Journal.stats`; empty unless the network runs.
        spares: see `SpareCounts`; empty unless the network runs.
        mods: by id, in load order.
        families: by name; only those that are divided.
    """

    network_id: str
    network_name: str
    is_running: bool
    started_at: float
    uptime_seconds: float
    agent_count: int
    channel_count: int
    events: NetworkCounters
    supervisor: SupervisorStats
    journal: dict[str, Any]
    spares: dict[str, int]
    dynamic_mods: LoadedMods
    mods: dict[str, ModStats]
    families: dict[str, FamilyStats]


@dataclass(frozen=True, slots=True)
class ModHealth(ReadModel):
    """Whether a mod serves. ``name`` is its path."""

    name: str
    mod_id: str
    enabled: bool


@dataclass(frozen=True, slots=True)
class UnreadyMod(ReadModel):
    """A mod marked ``required`` that does not serve."""

    mod_id: str
    state: str


@dataclass(frozen=True, slots=True)
class Readiness(ReadModel):
    """Whether a network is ready: all mods marked ``required`` serve.

    Attributes:
        mods: the mods marked ``required`` that do not serve.
    """

    is_running: bool
    mods: tuple[UnreadyMod, ...]

    @property
    def is_ready(self) -> bool:
        return self.is_running and not self.mods

    def to_dict(self) -> dict[str, Any]:
        return {"mods": _plain(self.mods)}


@dataclass(frozen=True, slots=True)
class Transport(ReadModel):
    """A way to reach the network, as agents look for it."""

    type: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AgentEntry(ReadModel):
    """A registered agent as callers with a secret see it. ``last_seen`` is in Unix seconds."""

    capabilities: list[Any]
    last_seen: float
    transport_type: str = "http"
    address: None = None


@dataclass(frozen=True, slots=True)
class Health(ReadModel):
    """What ``GET /api/health`` shows to everybody. ``agents`` stays empty for a stranger."""

    network_id: str
    network_name: str
    is_running: bool
    uptime_seconds: float
    topology_mode: str
    transports: tuple[Transport, ...]
    manifest_transport: str
    recommended_transport: str
    agent_count: int
    max_connections: int
    mods: tuple[ModHealth, ...]
    agents: dict[str, AgentEntry] = field(default_factory=dict)


# -- figures that several models show


def latencies(latency: LatencyHistogram) -> tuple[float | None, float | None]:
    """Return the median and the 99th percentile in milliseconds; None without answers."""
    p50, p99 = latency.quantiles(0.5, 0.99)
    return _milliseconds(p50), _milliseconds(p99)


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
