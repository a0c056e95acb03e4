"""Makes the parts of a network and wires them to one another."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from . import http
from .agents import AgentRegistry, OperatorTokens
from .audit import Actor, Audit
from .cell import Peers
from .clock import AwakeTime, awake_time
from .commands import SystemCommands
from .events import DeadLetters, Gateway, LetterLedger, ModRequests
from .fleet import (
    Audiences,
    Autoreload,
    Loading,
    ModCommands,
    ModRecords,
    ModRegistry,
    ModUpkeep,
    ResourceMonitor,
    Saved,
    resources,
)
from .journal import Journal
from .limits import Enforcement
from .operations import Operations
from .process import make_launcher
from .sources import SnapshotStore, modules_to_preload


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
        self.journal = Journal(state.database, config.journal)
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
        self.agents = AgentRegistry(
            config.agents, config.agent_groups, self.journal.record, self.awake.time, self.journal.together
        )
        self.monitor = ResourceMonitor(self._worker_pids)
        snapshots = SnapshotStore(state.snapshots)
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
            ledger=LetterLedger(self.journal),
            launcher=launcher,
            snapshots=snapshots,
        )
        self.records = ModRecords(self.mods, self.journal, snapshots)
        self.commands = ModCommands(self.mods, self.records, self.journal, snapshots)
        self.mods.upkeep = ModUpkeep(self.mods, self.records, tasks)
        commands = SystemCommands(network, self.agents)
        self.gateway = Gateway(
            self.mods,
            self.agents,
            commands,
            network.counters,
            config.event_timeout,
            network.refusals,
            commands.repeated,
        )
        self.families = Audiences(self.mods, self.records, lambda: network.config)
        self.dead_letters = DeadLetters(self.journal, self.mods, self.gateway)
        self.saves: list[Callable[[Saved], None]] = []
        self.autoreload = Autoreload(self.commands, network._is_watched, self._saved)
        self._requests = ModRequests(tasks, self.agents, self.gateway, self.mods.dependents.answering)
        self.loading = Loading(self.commands)
        self.servers = http.Servers(network, tasks, peers.refusal) if serves else None

    @property
    def port(self) -> int | None:
        return None if self.servers is None else self.servers.port

    def _worker_pids(self) -> list[int]:
        workers = (worker for mod in self.mods for worker in mod.keepers)
        return [incarnation.pid for worker in workers for incarnation in worker.incarnations]

    def _resources_of(self, pid: int) -> dict[str, Any] | None:
        sample = self.monitor.of(pid)
        return None if sample is None else resources(sample).to_dict()

    def _saved(self, saved: Saved) -> None:
        outcome = "ok" if saved.response.success else str(saved.response.error)
        self.audit.note("mod.reload", saved.mod_id, outcome, {"files": list(saved.files[:5])}, Actor("watch"))
        for tell in self.saves:
            tell(saved)
