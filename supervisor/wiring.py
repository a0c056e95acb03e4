"""Makes the parts of a network and wires them to one another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from ..ipc.errors import Code, ModvisorError
from . import http, tracing
from .agents import AgentRegistry, AgentStore, OperatorTokens
from .audit import Actor, Audit
from .calls import Caller, TracedCaller
from .cell import Peers
from .clock import AwakeTime, awake_time
from .commands import SystemCommands
from .config import NetworkConfig
from .events import CommandHandler, DeadLetters, Gateway, LetterLedger, ModRequests, TracedGateway, Ways
from .fleet import (
    Audiences,
    Autoreload,
    History,
    Loading,
    LocalOrders,
    ModCommands,
    ModRecords,
    ModRegistry,
    ModRows,
    ModUpkeep,
    Orders,
    Plans,
    ResourceMonitor,
    Saved,
    resources,
)
from .journal import FileStore, Journal, JournalFiles, StateDir
from .limits import Enforcement
from .operations import Operations
from .process import make_launcher
from .sources import SnapshotStore, modules_to_preload

if TYPE_CHECKING:
    from .cluster import Cluster


class NetworkParts:
    """The parts of a running network. Operations use those that `inspection.Parts` names.

    Args:
        serves: the network has a port or an admin socket. Without them, what serves HTTP is not imported: it takes up
            6 MB.
    """

    def __init__(self, network: Operations, tasks: TaskGroup, *, serves: bool) -> None:
        config, state = network.config, network.state_dir
        self.tasks = tasks
        self.background = anyio.CancelScope()
        self.tracer = _tracer(config)
        self.cluster = _cluster(config, tasks)
        self.journal = self._journal(state, config)
        self.tokens = OperatorTokens()
        self.audit = Audit(
            state.root,
            lambda: network.config.audit,
            self.journal.keep_audit_head,
            config.network_id,
            lambda text: network.redaction.text(text),
            is_full=config.journal.sync == "full",
        )
        network.refusals.minute = self.audit.refused
        self.awake = awake_time(asyncio.get_running_loop()) or AwakeTime()
        self.agents = self._agents_of(config)
        self.monitor = ResourceMonitor(self._worker_pids)
        snapshots = self._snapshots(state)
        self.enforcement = Enforcement(config.network_id, config.cgroups, self.monitor.take)
        launcher = make_launcher(config.base_dir, modules_to_preload(config), config.preload_timeout)
        peers = Peers(lambda: launcher.roots, lambda: self.enforcement.cgroups.path)
        self.mods = ModRegistry(
            config,
            state,
            tasks,
            # Bound late: what they call is made below, from the mods.
            on_request=lambda *request: self._requests.take(*request),
            on_cancel=lambda *request: self._requests.cancel(*request),
            late=lambda *answer: self.gateway.late(*answer),
            resources_of=self._resources_of,
            enforcement=self.enforcement,
            journal=self.journal,
            ledger=LetterLedger(self.journal, self.journal),
            launcher=launcher,
            snapshots=snapshots,
            caller=Caller if self.tracer is None else TracedCaller,
        )
        self.mods.tell_refused_hosts(self._host_refused)
        self.records = ModRecords(self.mods, self.journal, snapshots)
        self.commands = ModCommands(self.mods, self.records, self.journal, snapshots)
        self.mods.upkeep = ModUpkeep(self.mods, self.records, tasks)
        commands = SystemCommands(network, self.agents)
        self.gateway = self._kind_of_gateway()(
            self.mods,
            self.agents,
            self._answering(commands),
            network.counters,
            config.event_timeout,
            network.refusals,
            commands.repeated,
        )
        if isinstance(self.gateway, TracedGateway) and self.tracer is not None:
            self.gateway.tracer = self.tracer
        self.ways = Ways(self.gateway, lambda: network.config.dashboard.ways)
        self.families = Audiences(self.mods, self.records, lambda: network.config)
        self.plans = Plans(self.mods)
        self.history = History()
        self.rows = ModRows(lambda: self.mods, self.mods.families, self.monitor, self.history)
        self.dead_letters = DeadLetters(self.journal, self.mods, self.gateway)
        self.saves: list[Callable[[Saved], None]] = []
        self.autoreload = Autoreload(self.commands, network._is_watched, self._saved)
        answering, files = self.mods.dependents.answering, self._files(config)
        self._requests = ModRequests(tasks, self.agents, self.gateway, answering, files)
        self.loading = Loading(self.commands)
        self.orders: Orders = LocalOrders(self.loading, self.families)
        if self.cluster is not None:
            rows = ModRows(lambda: self.mods, self.mods.families, self.monitor, self.history)
            network.everywhere = self.cluster.seen_from(network, self.mods, rows)
        self.servers = http.Servers(network, tasks, peers.refusal) if serves else None

    def _agents_of(self, config: NetworkConfig) -> AgentRegistry:
        if self.cluster is not None:
            return self.cluster.agents.registry(config.agents, config.agent_groups, self.awake.time)
        kept: AgentStore = self.journal
        return AgentRegistry(config.agents, config.agent_groups, kept.record, self.awake.time, kept.together)

    def _kind_of_gateway(self) -> type[Gateway]:
        if self.cluster is not None:
            return self.cluster.gateway(is_traced=self.tracer is not None)
        return Gateway if self.tracer is None else TracedGateway

    def _answering(self, commands: SystemCommands) -> CommandHandler:
        """Return what answers ``system.*`` events: in a cluster, the home of the agent that they are about."""
        if self.cluster is None:
            return commands
        mods = self.mods
        return self.cluster.agents.commands(
            commands, lambda mod_id: None if (mod := mods.get(mod_id)) is None else mod.config
        )

    def _journal(self, state: StateDir, config: NetworkConfig) -> Journal:
        if self.cluster is None:
            return Journal(state.database, config.journal)
        return self.cluster.journal(state.database, config.journal)

    def _files(self, config: NetworkConfig) -> FileStore:
        files = JournalFiles(self.journal, config.journal)
        return files if self.cluster is None else self.cluster.mod_files(files)

    def _snapshots(self, state: StateDir) -> SnapshotStore:
        return SnapshotStore(state.snapshots) if self.cluster is None else self.cluster.snapshots(state.snapshots)

    @property
    def port(self) -> int | None:
        return None if self.servers is None else self.servers.port

    @property
    def at_the_edge(self) -> dict[str, Any]:
        """The figures of what stands around the network: of its port and of its tracer, as `Figures` has them."""
        door = None if self.servers is None else self.servers.door
        at_door = {} if door is None else {"connections": door.by_rank(), "dismissed": dict(door.dismissed)}
        return at_door if self.tracer is None else {**at_door, "traces": dict(self.tracer.outcomes)}

    def _worker_pids(self) -> list[int]:
        workers = (worker for mod in self.mods for worker in mod.keepers)
        return [incarnation.pid for worker in workers for incarnation in worker.incarnations]

    def _resources_of(self, pid: int) -> dict[str, Any] | None:
        sample = self.monitor.of(pid)
        return None if sample is None else resources(sample).to_dict()

    def _host_refused(self, mod_id: str, host: str, why: str) -> None:
        self.audit.note("mod.connect", host, "refused", {"why": why}, Actor(f"mod:{mod_id}"))

    def _saved(self, saved: Saved) -> None:
        outcome = "ok" if saved.response.success else str(saved.response.error)
        self.audit.note("mod.reload", saved.mod_id, outcome, {"files": list(saved.files[:5])}, Actor("watch"))
        for tell in self.saves:
            tell(saved)


def _cluster(config: NetworkConfig, tasks: TaskGroup) -> Cluster | None:
    """Return this node of a cluster, if the config names one. Without it, nothing of clusters is imported.

    Raises `ModvisorError` if what speaks to the servers is not installed.
    """
    if config.cluster is None:
        return None
    try:
        return import_module(".cluster", __package__).Cluster(config, tasks)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "nats":
            raise
        text = f"cluster: the client of NATS cannot be imported ({error}); install modvisor[cluster], or remove the key"
        raise ModvisorError(text, code=Code.START_FAILED) from None


def _tracer(config: NetworkConfig) -> tracing.Tracer | None:
    """Return what records spans, if the config wants it. Raises `ModvisorError` if OpenTelemetry is not installed."""
    if config.tracing.otlp is None:
        return None
    try:
        return tracing.Tracer(config.tracing, config.network_id)
    except ImportError as error:
        text = f"tracing.otlp: OpenTelemetry cannot be imported ({error}); install modvisor[otel], or remove the key"
        raise ModvisorError(text, code=Code.START_FAILED) from None
