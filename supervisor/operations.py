"""`Operations`: what can be asked of a running network, by a program, an agent, a mod or an operator.

`AgentNetwork` is these operations and the life of what they work on; `commands` and `http` know the operations alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from heapq import merge
from pathlib import Path
from typing import Any, Protocol

import anyio.to_thread

from ..ipc.address import AGENT
from ..ipc.errors import Code, ModvisorError
from ..ipc.event import Event, EventResponse
from .agents import AgentRegistry
from .calls import NetworkCounters
from .config import ModConfig, NetworkConfig, mod_config
from .events import DeadLetters, Gateway
from .fleet import (
    Audiences,
    Autoreload,
    Changes,
    Loading,
    Mod,
    ModRegistry,
    ResourceMonitor,
    Saved,
    apply_changes,
    in_force,
    mod_stats,
    pids_of,
    resource_stats,
)
from .journal import Journal, StateDir
from .lifecycle import Keeper, State
from .process import read_tail
from .sources import HOW_TO_INSTALL, available, is_available

logger = logging.getLogger("modvisor.network")

TAP_SIZE = 10_000  # events a slow watcher of the stream may lag behind


class Parts(Protocol):
    """What a running network consists of, as far as it can be asked; `network` puts it together."""

    journal: Journal
    agents: AgentRegistry
    mods: ModRegistry
    gateway: Gateway
    monitor: ResourceMonitor
    families: Audiences
    dead_letters: DeadLetters
    loading: Loading
    autoreload: Autoreload
    saves: list[Callable[[Saved], None]]

    @property
    def port(self) -> int | None:
        """The TCP port that is listened on, None if there is none."""
        ...


class Operations:
    """What can be asked of a network. Failures of mods and requests are responses (``success=False``), never exceptions.

    Before the network runs, and after it, most are answered with a failure ``not_running``.
    """

    def __init__(self, config: NetworkConfig) -> None:
        self.config = config
        self.state_dir = StateDir(config.storage)
        self.counters = NetworkCounters()
        self._parts: Parts | None = None
        self._closing = False  # events in flight finish, new ones are refused
        self._stop_requested: asyncio.Event | None = None
        self._started_at = 0.0
        self._started = 0.0

    @property
    def is_running(self) -> bool:
        return self._parts is not None

    def request_stop(self) -> None:
        """Begin to shut down, without waiting for the end; `wait_stopped` and `shutdown` do. May be called again."""
        if self._stop_requested is not None:
            self._stop_requested.set()

    def _running(self) -> Parts:
        if self._parts is None:
            raise ModvisorError("the network is not running; call initialize() first", code=Code.NOT_RUNNING)
        return self._parts

    # -- events

    def process_event(self, event: Event) -> Coroutine[Any, Any, EventResponse]:
        """An event from inside: trusted, whatever its source says. Await it at once: its time begins with the call."""
        if self._parts is None or self._closing:
            return _refused(event)
        return self._parts.gateway.from_inside(event)  # not awaited here: a coroutine less for every event

    async def process_external_event(self, event: Event) -> EventResponse:
        """An event from outside: its source must be an agent and carry that agent's secret."""
        if self._parts is None or self._closing:
            return _not_running(event)
        return await self._parts.gateway.from_outside(event)

    async def poll_events(self, agent_id: str, *, wait: float = 0.0, limit: int | None = None) -> list[Event]:
        """Take what was delivered to an agent; waits up to ``wait`` seconds for the first event.

        Raises:
            ModvisorError: no_such_agent or not_running.
        """
        agents = self._running().agents
        agent = agents.get(agent_id.removeprefix(f"{AGENT}:"))
        if agent is None:
            raise ModvisorError(f"no agent {agent_id!r} is registered", code=Code.NO_SUCH_AGENT)
        return await agents.poll(agent, wait, limit)

    @contextmanager
    def tap(self) -> Iterator[asyncio.Queue[tuple[Event, EventResponse]]]:
        """Every finished event with its response, from now on. A reader that lags loses the newest ones.

        The events are the network's own: read them, do not change them.
        """
        queue: asyncio.Queue[tuple[Event, EventResponse]] = asyncio.Queue(TAP_SIZE)

        def put(event: Event, response: EventResponse) -> None:
            if not queue.full():
                queue.put_nowait((event, response))

        taps = self._running().gateway.taps
        taps.append(put)
        try:
            yield queue
        finally:
            taps.remove(put)

    # -- mods

    async def load_mod(
        self, mod_path: str, config: dict[str, Any] | None = None, *, mod_id: str | None = None, **more: Any
    ) -> EventResponse:
        """Start a worker for a mod, and first for those that it requires and that are not loaded.

        ``data``: mod_id, mod_path, version, pid, patterns; dependencies (the ids of those that were loaded with it).

        Several versions of a mod run side by side, each under an id of its own:
        ``load_mod("./wiki", version="2.0", mod_id="wiki@2")``.

        Args:
            more: other keys of a mod's entry in the network file: ``version``, ``python``, ``paths``, ``env``, ``limits`` …
        """
        if self._parts is None:
            return _not_running()
        try:
            mod = self._entry(mod_path, mod_id=mod_id, config=config, **more)
        except ModvisorError as error:
            return EventResponse.failure(error.code, f"{mod_path}: {error}", mod_path=mod_path)
        return await self._parts.loading.load(mod)

    async def unload_mod(self, mod: str, *, timeout: float | None = None, cascade: bool = False) -> EventResponse:
        """Drain a mod (by id or path) and end its worker. ``data``: mod_id, mod_path, unloaded (the ids of all that went).

        Args:
            cascade: those that need it go first; else it is refused while there are any (``needed``).
        """
        if self._parts is None:
            return _not_running()
        return await self._parts.loading.unload(mod, timeout, cascade=cascade)

    async def reload_mod(
        self, mod: str, mod_path: str | None = None, config: dict[str, Any] | None = None
    ) -> EventResponse:
        """Replace a mod's worker by one with fresh code, state handed over; the old one stays if the new one fails.

        ``data``: mod_id, mod_path, pause_ms (how long events waited), queued (how many of them did), state_bytes, ``from`` and
        ``to`` (versions); of a failure: error, step and what the failure carried. For the mod's ``probation`` afterwards, a
        crash or a jump in errors brings the former version back.

        Args:
            mod_path: where the code is from now on, if that changes.
            config: the mod's free-form part, if that changes.
        """
        return _not_running() if self._parts is None else await self._parts.mods.reload(mod, config, mod_path)

    async def restart_mod(self, mod: str) -> EventResponse:
        """A new incarnation of the last version that was ready; brings a quarantined, failed or ended mod back."""
        return _not_running() if self._parts is None else await self._parts.mods.restart(mod)

    async def swap_mod(
        self,
        mod: str,
        mod_path: str,
        config: dict[str, Any] | None = None,
        *,
        mod_id: str | None = None,
        alias: bool = False,
        **more: Any,
    ) -> EventResponse:
        """Put another mod in the place of a loaded one (by id or path), state handed over; the old one stays if it fails.

        The new one takes the old one's place in the load order and the events that waited for it; its id is the last part
        of ``mod_path`` unless ``mod_id`` names it. With ``alias``, the former id goes on naming it. Other arguments as in
        `load_mod`; ``data`` as in `reload_mod`, and former_id.
        """
        if self._parts is None:
            return _not_running()
        try:
            wanted = self._entry(mod_path, mod_id=mod_id, config=config, **more)
        except ModvisorError as error:
            return EventResponse.failure(error.code, f"{mod_path}: {error}", mod_path=mod_path)
        return await self._parts.mods.swap(mod, wanted, alias=alias)

    # -- versions of a mod

    async def set_audience(
        self,
        mod: str,
        *,
        percent: float | None = None,
        groups: Sequence[str] | None = None,
        agents: Sequence[str] | None = None,
        everyone: bool = False,
    ) -> EventResponse:
        """Change whose events a mod (by id or path) gets, from the next event on; nothing is restarted.

        ``data``: mod_id, and of its family what `get_audience` says.

        Args:
            percent, groups, agents: a share of the sources (0 to 100), groups of agents, sources such as ``alice`` or
                ``mod:shop``. What is left out stays as it is; an empty list takes all of a kind away.
            everyone: it has no audience of its own any more: the version of all others, unless there is another one.
        """
        if self._parts is None:
            return _not_running()
        audience = {"percent": percent, "groups": groups, "agents": agents}
        return await self._parts.families.set_audience(mod, everyone=everyone, **audience)

    def get_audience(self, mod: str) -> EventResponse:
        """The family of a mod (by its name, or by id or path). ``data``: family, default (the version of all others, or None),
        promotions (that `rollback_mod` can take back), versions (each with reaches, share of the events, latencies)."""
        return _not_running() if self._parts is None else self._parts.families.show(mod)

    async def promote_mod(self, mod: str) -> EventResponse:
        """Make a version the one of everybody, in one moment; the others of its family stay loaded without events."""
        return _not_running() if self._parts is None else await self._parts.families.promote(mod)

    async def rollback_mod(self, mod: str) -> EventResponse:
        """Have a family (by its name, or a mod's id or path) be as before its last promotion."""
        return _not_running() if self._parts is None else await self._parts.families.rollback(mod)

    # -- looking at mods

    def get_loaded_mods(self) -> dict[str, dict[str, Any]]:
        """By mod id, in load order: mod_id, mod_path, loaded_at, state, pid, version."""
        if self._parts is None:
            return {}
        return {
            keeper.mod_id: {
                "mod_id": keeper.mod_id,
                "mod_path": keeper.config.path,
                "loaded_at": keeper.loaded_at,
                "state": str(keeper.state),
                **pids_of(keeper),
                "version": keeper.manifest.version if keeper.manifest is not None else None,
            }
            for keeper in self._parts.mods
        }

    async def available_mods(self) -> list[dict[str, Any]]:
        """What could be loaded, found without importing any of it; the network need not run.

        Each: name, mod_path, source (network, mod_paths, bundled, installed), where, versions (the one that is taken without
        asking first), description, requires, optional, error (why it cannot be loaded), loaded (the ids of those that are).
        """
        found = await anyio.to_thread.run_sync(available, self.config)
        loaded = self.get_loaded_mods().values()
        return [
            {**mod.to_dict(), "loaded": [each["mod_id"] for each in loaded if each["mod_path"] == mod.mod_path]}
            for mod in found
        ]

    def describe_mods(self) -> list[dict[str, Any]]:
        """The loaded mods as agents see them."""
        return [
            {
                "name": keeper.config.path,
                "mod_id": keeper.mod_id,
                "description": keeper.manifest.description if keeper.manifest is not None else "",
                "version": keeper.manifest.version if keeper.manifest is not None else "",
                "requires_adapter": False,
                "capabilities": list(keeper.manifest.patterns) if keeper.manifest is not None else [],
                "state": str(keeper.state),
            }
            for keeper in (self._parts.mods if self._parts is not None else ())
        ]

    def get_crashes(self, mod: str | None = None) -> list[dict[str, Any]]:
        """Reports of incarnations that ended unasked, oldest first: of one mod (by id or path) or of all.

        Raises:
            ModvisorError: no_such_mod.
        """
        mods = self._running().mods
        keepers = [worker for one in mods for worker in one.keepers] if mod is None else self._workers_of(mod)
        if mod is not None and not keepers:
            raise ModvisorError(f"no mod {mod!r} is loaded", code=Code.NO_SUCH_MOD)
        reports = [report for keeper in keepers for report in keeper.crashes]
        return [report.to_dict() for report in sorted(reports, key=lambda report: report.at)]

    def mod_log(self, mod: str, lines: int = 100) -> list[str]:
        """The last lines of a mod's log, of a mod that is no longer loaded too (by id)."""
        workers = self._workers_of(mod)
        if not workers:
            return read_tail(self.state_dir.log_file(mod), lines)
        tails = [read_tail(self.state_dir.log_file(worker.mod_id), lines) for worker in workers]
        return list(merge(*tails))[-lines:] if lines else []  # each line begins with its time

    @contextmanager
    def follow_log(self, mod: str) -> Iterator[asyncio.Queue[str]]:
        """New lines of a loaded mod's log; raises `ModvisorError` (no_such_mod)."""
        self._running()
        logs = [worker.log for worker in self._workers_of(mod)]
        if not logs:
            raise ModvisorError(f"no mod {mod!r} is loaded", code=Code.NO_SUCH_MOD)
        queue: asyncio.Queue[str] = asyncio.Queue(TAP_SIZE)

        def put(line: str) -> None:
            if not queue.full():
                queue.put_nowait(line)

        for log in logs:
            log.add_listener(put)
        try:
            yield queue
        finally:
            for log in logs:
                log.remove_listener(put)

    def _workers_of(self, mod: str) -> list[Keeper]:
        """Of a mod, by id or path; of ``wiki#1``, that one; of a mod that is not loaded, none."""
        if self._parts is None:
            return []
        name, _, index = mod.partition("#")
        found = self._parts.mods.find(name if index.isdecimal() else mod)
        workers = found.keepers if found is not None else []
        return [worker for worker in workers if worker.mod_id == mod] if index.isdecimal() else workers

    @property
    def watched_mods(self) -> list[str]:
        """The ids of the loaded mods that are reloaded when their files are saved."""
        return (
            [] if self._parts is None else [each.mod_id for each in self._parts.mods if self._is_watched(each.config)]
        )

    @contextmanager
    def follow_saves(self) -> Iterator[asyncio.Queue[Saved]]:
        """What was reloaded because its files were saved, and what could not be, from now on."""
        queue: asyncio.Queue[Saved] = asyncio.Queue(TAP_SIZE)
        parts = self._running()

        def put(saved: Saved) -> None:
            if not queue.full():
                queue.put_nowait(saved)

        parts.saves.append(put)
        try:
            yield queue
        finally:
            parts.saves.remove(put)

    def _entry(self, mod_path: str, **asked: Any) -> ModConfig:
        mod = mod_config(mod_path, base_dir=self.config.base_dir, **asked)
        if mod.watch and not is_available():
            raise ModvisorError(HOW_TO_INSTALL, code=Code.BAD_INPUT)
        return mod

    def _is_watched(self, mod: ModConfig) -> bool:
        return self.config.watch if mod.watch is None else mod.watch

    # -- what is kept

    @property
    def dead_letters(self) -> DeadLetters:
        """The events that were given up; raises `ModvisorError` (not_running)."""
        return self._running().dead_letters

    async def backup(self, target: str | Path) -> int:
        """Copy the journal (agents, mods, checkpoints, accepted events, dead letters) into a file while the network runs.

        Returns:
            the size of the copy, bytes.

        Raises:
            ModvisorError: not_running, or why it could not be written.
        """
        return await self._running().journal.backup(Path(target))

    # -- agents

    async def register_agent(
        self, agent_id: str, metadata: dict[str, Any] | None = None, *, group: str | None = None
    ) -> EventResponse:
        """Register an agent from inside. ``data``: agent_id, secret, assigned_group, network_name, network_id."""
        try:
            return self.add_agent(agent_id, metadata or {}, group=group, trusted=True)
        except ModvisorError as error:
            return EventResponse.failure(error.code, str(error))

    async def unregister_agent(self, agent_id: str) -> EventResponse:
        """Forget an agent."""
        return _not_running() if self._parts is None else self.remove_agent(agent_id, "unregistered")

    def add_agent(self, agent_id: str, metadata: dict[str, Any], **how: Any) -> EventResponse:
        """Register (see `AgentRegistry.register`) and tell the mods; raises `ModvisorError`."""
        parts = self._running()
        agent, secret = parts.agents.register(agent_id, metadata, **how)
        parts.gateway.notify_mods(
            Event("system.notification.register_agent", "system:system",
                  payload={"agent_id": agent_id, "metadata": metadata, "group": agent.group})
        )  # fmt: skip
        data = {
            "agent_id": agent_id,
            "secret": secret,
            "assigned_group": agent.group,
            "network_name": self.config.name,
            "network_id": self.config.network_id,
        }
        return EventResponse(True, f"agent {agent_id} registered", data)

    def remove_agent(self, agent_id: str, reason: str) -> EventResponse:
        """Unregister and tell the mods. ``reason``: unregistered or expired."""
        parts = self._running()
        if parts.agents.unregister(agent_id) is None:
            return EventResponse.failure(Code.NO_SUCH_AGENT, f"no agent {agent_id!r} is registered")
        payload = {"agent_id": agent_id, "reason": reason}
        parts.gateway.notify_mods(Event("system.notification.unregister_agent", "system:system", payload=payload))
        return EventResponse(True, f"agent {agent_id} {reason}", {"agent_id": agent_id})

    # -- looking

    def note_refused(self, event: Event, why: str) -> None:
        """Count and log a request that somebody was not allowed to make."""
        self.counters.refused += 1
        logger.warning("refused %s from %s: %s", event.event_name, event.source_id, why)

    @property
    def port(self) -> int | None:
        """The TCP port it listens on, None if it does not."""
        return self._parts.port if self._parts is not None else None

    @property
    def uptime(self) -> float:
        return time.monotonic() - self._started if self._parts is not None else 0.0

    def health(self) -> dict[str, Any]:
        """What ``GET /api/health`` shows to anybody."""
        return {
            "network_id": self.config.network_id,
            "network_name": self.config.name,
            "is_running": self.is_running,
            "uptime_seconds": self.uptime,
            "topology_mode": "centralized",
            # No host: it would override the address by which the caller found us.
            "transports": [{"type": "http", "config": {"port": self.port}}] if self.port is not None else [],
            "manifest_transport": "http",
            "recommended_transport": "http",
            "agent_count": len(self._parts.agents) if self._parts is not None else 0,
            "max_connections": self.config.agents.max_agents,
            "mods": [
                {"name": mod["name"], "mod_id": mod["mod_id"], "enabled": mod["state"] == State.READY}
                for mod in self.describe_mods()
            ],
            "agents": {},
        }

    def agent_directory(self) -> dict[str, dict[str, Any]]:
        """The registered agents as ``GET /api/health`` shows them to a caller with a secret."""
        return {
            agent.agent_id: {
                # Metadata is whatever the agent says of itself.
                "capabilities": found if isinstance(found := agent.metadata.get("capabilities"), list) else [],
                "last_seen": agent.last_seen_at,
                "transport_type": "http",
                "address": None,
            }
            for agent in (self._parts.agents if self._parts is not None else ())
        }

    def get_network_stats(self) -> dict[str, Any]:
        """Everything that is counted and measured, as plain data. Reads memory only; samples are at most seconds old."""
        parts = self._parts
        needed = {} if parts is None else parts.mods.dependents.dependents()
        mods = {} if parts is None else {keeper.mod_id: self._mod_stats(keeper, parts) for keeper in parts.mods}
        for mod_id, figures in mods.items():
            figures["required_by"] = needed.get(mod_id, [])
        loaded = self.get_loaded_mods()
        return {
            "network_id": self.config.network_id,
            "network_name": self.config.name,
            "is_running": self.is_running,
            "started_at": self._started_at,
            "uptime_seconds": self.uptime,
            "agent_count": len(parts.agents) if parts is not None else 0,
            "channel_count": len(parts.agents.channels()) if parts is not None else 0,
            "events": asdict(self.counters),
            "supervisor": {
                "pid": os.getpid(),
                **resource_stats(parts.monitor.of(os.getpid()) if parts is not None else None),
            },
            "journal": parts.journal.stats() if parts is not None else {},
            "dynamic_mods": {"count": len(loaded), "loaded": list(loaded), "details": loaded},
            "mods": mods,
            "families": parts.mods.families.stats() if parts is not None else {},
        }

    def _mod_stats(self, mod: Mod, parts: Parts) -> dict[str, Any]:
        return {
            **mod_stats(mod, parts.monitor),
            **parts.mods.families.stats_of(mod),
            "watched_files": parts.autoreload.count_of(mod.mod_id),
        }

    async def sample_resources(self) -> None:
        """Take a resource sample now instead of at the next tick."""
        await self._running().monitor.sample()

    # -- changing

    async def reconfigure(self, config: NetworkConfig) -> Changes:
        """Take a changed network file: add, remove and change only the mods that changed."""
        changes = await apply_changes(self._running().mods, self._running().loading, self.config, config)
        self._running().agents.use_groups(config.agent_groups, config.agents)
        self.config = in_force(self.config, config)
        return changes

    def authenticate(self, agent_id: str, secret: str | None) -> bool:
        """Whether ``secret`` is that agent's."""
        return self._parts is not None and self._parts.agents.authenticate(agent_id, secret) is not None


def _not_running(event: Event | None = None) -> EventResponse:
    text = "the network is not running (not initialized yet, or shutting down)"
    response = EventResponse.failure(Code.NOT_RUNNING, text)
    response.event_name = event.event_name if event is not None else None
    return response


async def _refused(event: Event) -> EventResponse:
    return _not_running(event)
