"""`AgentNetwork`: the facade users hold, and the place where the parts are put together. It wires; it does not do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from heapq import merge
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from ..ipc.address import AGENT
from ..ipc.errors import Code, ModvisorError
from ..ipc.event import Event, EventResponse
from .agents import AgentRegistry
from .calls import Journey, NetworkCounters
from .commands import SystemCommands
from .config import ModConfig, NetworkConfig, load_config, mod_config, parse_config, with_bundled_permissions
from .events import DeadLetters, Gateway, LetterLedger, ModRequests
from .fleet import (
    Audiences,
    Autoreload,
    Changes,
    Loading,
    ModCommands,
    ModRecords,
    ModRegistry,
    ModUpkeep,
    NetworkView,
    ResourceMonitor,
    Saved,
    agent_directory,
    apply_changes,
    describe_mods,
    health,
    in_force,
    loaded_mods,
    network_stats,
    resources,
)
from .http.server import Servers
from .journal import Journal, Kept, StateDir
from .lifecycle import Keeper
from .limits import Enforcement
from .process import make_launcher, read_tail
from .sources import HOW_TO_INSTALL, SnapshotStore, available, is_available

logger = logging.getLogger("modvisor.network")

EXPIRY_INTERVAL = 2.0  # seconds between looks for agents that stopped polling
TAP_SIZE = 10_000  # events a slow watcher of the stream may lag behind


class StartError(ModvisorError):
    """The network could not start: its core failed, or a mod marked ``required`` did."""

    code = Code.START_FAILED


class AgentNetwork:
    """An event network whose mods run in worker processes.

        async with AgentNetwork.load("network.yaml") as network:
            response = await network.load_mod("modvisor.mods.workspace.wiki")

    Failures of mods and requests are responses (``success=False``), never exceptions. `initialize` and `shutdown` may be
    called from different tasks; both only signal the task that owns everything the network runs.
    """

    def __init__(self, config: NetworkConfig) -> None:
        self.config = config
        self.state_dir = StateDir(config.storage)
        self.counters = NetworkCounters()
        self._owner: asyncio.Task[None] | None = None
        self._stop_requested: asyncio.Event | None = None
        self._parts: _Parts | None = None
        self._closing = False  # events in flight finish, new ones are refused
        self._started_at = 0.0
        self._started = 0.0

    @classmethod
    def load(cls, path: str | Path) -> AgentNetwork:
        """A network from its file; raises `ConfigError` listing every mistake, and starts nothing."""
        return cls(load_config(path))

    @classmethod
    def from_config(cls, config: dict[str, Any], *, base_dir: str | Path = ".") -> AgentNetwork:
        """A network from plain data of the file's shape; raises `ConfigError`."""
        return cls(parse_config(config, base_dir=Path(base_dir)))

    # -- life

    @property
    def is_running(self) -> bool:
        return self._parts is not None

    async def initialize(self, *, admin: bool = False, fresh: bool = False) -> bool:
        """Start everything: the mods of the config and those that were loaded when the network last ran, and the HTTP server
        if the config names a port.

        Args:
            admin: serve the admin API on a unix socket in the state directory, as ``modvisor run`` does.
            fresh: load what the config names and nothing else, and forget who was in quarantine. Agents, checkpoints,
                accepted events and dead letters stay.

        Raises:
            StartError: the core or a mod marked ``required`` failed; nothing is left running.
            StateDirBusy: another network owns the state directory.
        """
        if self._owner is not None:
            raise StartError("the network is initialized already; shut it down first")
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stop_requested = asyncio.Event()
        self._owner = asyncio.create_task(self._own(started, admin, fresh), name="modvisor-network")
        try:
            await asyncio.shield(started)
        except asyncio.CancelledError:
            await self.shutdown()
            raise
        except BaseException:
            await asyncio.wait([self._owner])
            self._owner = None
            raise
        return True

    async def shutdown(self) -> None:
        """Drain and unload every mod, stop serving, release the state directory. May be called again."""
        owner = self._owner
        if owner is None or self._stop_requested is None:
            return
        self._stop_requested.set()
        await asyncio.shield(asyncio.wait([owner]))
        if self._owner is owner:  # else somebody has initialized it anew meanwhile
            self._owner = None
        if not owner.cancelled() and (error := owner.exception()) is not None:
            raise error

    def request_stop(self) -> None:
        """Begin to shut down, without waiting for the end; `wait_stopped` and `shutdown` do. May be called again."""
        if self._stop_requested is not None:
            self._stop_requested.set()

    async def wait_stopped(self) -> None:
        """Until the network has ended, whoever stopped it; returns at once if it does not run."""
        if (owner := self._owner) is not None:
            await asyncio.wait([owner])

    async def __aenter__(self) -> AgentNetwork:
        await self.initialize()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()

    async def _own(self, started: asyncio.Future[None], admin: bool, fresh: bool) -> None:
        """The one task that owns all others. Whatever happens, no process and no lock outlives it."""
        assert self._stop_requested is not None
        try:
            self._acquire()
            async with anyio.create_task_group() as tasks:
                parts = _Parts(self, tasks)
                try:
                    await self._start(parts, admin, fresh)
                    started.set_result(None)
                    await self._stop_requested.wait()
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._stop(parts)
                    tasks.cancel_scope.cancel()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(_unwrapped(error))
        finally:
            self.state_dir.release()

    def _acquire(self) -> None:
        try:
            self.state_dir.acquire()
        except OSError as error:
            raise StartError(
                f"the state directory {self.state_dir.root} cannot be used: {error}; "
                "make it writable for this user, or give the network another 'storage'"
            ) from None

    async def _start(self, parts: _Parts, admin: bool, fresh: bool) -> None:
        self._started_at, self._started = time.time(), time.monotonic()
        kept = await anyio.to_thread.run_sync(parts.journal.open)
        if fresh:
            kept = _without_mods(kept, parts.journal)
        parts.agents.restore(kept.agents, kept.channels)
        parts.records.restore(kept)
        await anyio.to_thread.run_sync(parts.enforcement.open)
        parts.tasks.start_soon(parts.enforcement.run, name="enforcement")
        try:
            await parts.mods.start_launcher()
        except OSError as error:
            raise StartError(f"no process can be started that starts the workers: {error}") from None
        except ModvisorError as error:
            raise StartError(str(error)) from None
        self._parts = parts
        outcomes = await self._load_mods(parts, kept)
        failed = [(mod, response) for mod, response in outcomes if not response.success]
        for mod, response in failed:
            logger.error("mod %s did not start: %s", mod.mod_id, response.message)
        if required := [response.message for mod, response in failed if mod.required]:
            raise StartError("a required mod failed: " + "; ".join(str(message) for message in required))
        await parts.servers.start(admin=admin)
        parts.tasks.start_soon(self._background, parts)

    async def _load_mods(self, parts: _Parts, kept: Kept) -> list[tuple[ModConfig, EventResponse]]:
        """The mods of the file, then those of the former run; a shutdown meanwhile cancels them. Returns the file's."""
        assert self._stop_requested is not None
        outcomes: list[tuple[ModConfig, EventResponse]] = []
        async with anyio.create_task_group() as tasks:

            async def watch_for_shutdown(stop: asyncio.Event) -> None:
                await stop.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(watch_for_shutdown, self._stop_requested)
            outcomes, restored = await parts.loading.start(kept.mods)
            for mod_id, response in restored:
                if not response.success:
                    logger.error(
                        "mod %s, loaded when the network last ran, did not start: %s", mod_id, response.message
                    )
            parts.records.started()
            tasks.cancel_scope.cancel()
        if self._stop_requested.is_set():
            raise StartError("the network was shut down while it started", code=Code.NOT_RUNNING)
        return outcomes

    async def _stop(self, parts: _Parts) -> None:
        """Take nothing new, let the mods finish and end, tell those who wait, put what must be kept on disk."""
        self._closing = True
        parts.background.cancel()
        await parts.commands.close()
        await parts.mods.close_launcher()
        await parts.servers.stop()
        await anyio.to_thread.run_sync(parts.enforcement.close)
        self._parts, self._closing = None, False
        await anyio.to_thread.run_sync(parts.journal.close)

    async def _background(self, parts: _Parts) -> None:
        """What runs beside the events, until `_stop`."""
        with parts.background:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._expire_agents, parts, name="agent-expiry")
                tasks.start_soon(parts.autoreload.run, name="watcher")

    async def _expire_agents(self, parts: _Parts) -> None:
        while True:
            await anyio.sleep(EXPIRY_INTERVAL)
            for agent_id in parts.agents.expired():
                self.remove_agent(agent_id, "expired")

    def _running(self) -> _Parts:
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
        return _not_running() if self._parts is None else await self._parts.commands.reload(mod, config, mod_path)

    async def restart_mod(self, mod: str) -> EventResponse:
        """A new incarnation of the last version that was ready; brings a quarantined, failed or ended mod back."""
        return _not_running() if self._parts is None else await self._parts.commands.restart(mod)

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
        return await self._parts.commands.swap(mod, wanted, alias=alias)

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
        return {mod_id: mod.to_dict() for mod_id, mod in loaded_mods(self._view().mods).items()}

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
        return [mod.to_dict() for mod in describe_mods(self._view().mods)]

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
        return self._parts.servers.port if self._parts is not None else None

    @property
    def uptime(self) -> float:
        return time.monotonic() - self._started if self._parts is not None else 0.0

    def health(self) -> dict[str, Any]:
        """What ``GET /api/health`` shows to anybody."""
        return health(self._view()).to_dict()

    def agent_directory(self) -> dict[str, dict[str, Any]]:
        """The registered agents as ``GET /api/health`` shows them to a caller with a secret."""
        agents = self._parts.agents if self._parts is not None else ()
        return {agent_id: entry.to_dict() for agent_id, entry in agent_directory(agents).items()}

    def get_network_stats(self) -> dict[str, Any]:
        """Everything that is counted and measured, as plain data. Reads memory only; samples are at most seconds old."""
        return network_stats(self._view()).to_dict()

    def _view(self) -> NetworkView:
        return NetworkView(self.config, self.counters, self._started_at, self.uptime, self.port, self._parts)

    async def sample_resources(self) -> None:
        """Take a resource sample now instead of at the next tick."""
        await self._running().monitor.sample()

    # -- changing

    async def reconfigure(self, config: NetworkConfig) -> Changes:
        """Take a changed network file: add, remove and change only the mods that changed."""
        changes = await apply_changes(self._running().loading, self.config, config)
        self._running().agents.use_groups(config.agent_groups, config.agents)
        self.config = in_force(self.config, config)
        return changes

    def authenticate(self, agent_id: str, secret: str | None) -> bool:
        """Whether ``secret`` is that agent's."""
        return self._parts is not None and self._parts.agents.authenticate(agent_id, secret) is not None


class _Parts:
    """What a running network consists of."""

    def __init__(self, network: AgentNetwork, tasks: TaskGroup) -> None:
        config, state = network.config, network.state_dir
        self.tasks = tasks
        self.background = anyio.CancelScope()
        self.journal = Journal(state.database, config.journal)
        self.agents = AgentRegistry(config.agents, config.agent_groups, self.journal.record)
        mods = tuple(with_bundled_permissions(mod) for mod in config.mods)
        self.monitor = ResourceMonitor(self._worker_pids)
        snapshots = SnapshotStore(state.snapshots)
        self.enforcement = Enforcement(config.network_id, config.cgroups, self.monitor.take)
        self.mods = ModRegistry(
            config,
            mods,
            state,
            tasks,
            on_request=self._on_request,
            on_cancel=self._on_cancel,
            late=self._late,
            resources_of=self._resources_of,
            enforcement=self.enforcement,
            journal=self.journal,
            ledger=LetterLedger(self.journal),
            launcher=make_launcher(config.base_dir, config.preload),
            snapshots=snapshots,
        )
        self.records = ModRecords(self.mods, self.journal, snapshots)
        self.commands = ModCommands(self.mods, self.records, self.journal, snapshots)
        self.mods.upkeep = ModUpkeep(self.mods, self.records, tasks)
        self.gateway = Gateway(
            self.mods, self.agents, SystemCommands(network, self.agents), network.counters, config.event_timeout
        )
        self.families = Audiences(self.mods, self.records, lambda: network.config)
        self.dead_letters = DeadLetters(self.journal, self.mods, self.gateway)
        self.saves: list[Callable[[Saved], None]] = []
        self.autoreload = Autoreload(self.commands, network._is_watched, self._saved)
        self._requests = ModRequests(tasks, self.agents, self.gateway, self.mods.dependents.answering)
        self.loading = Loading(self.commands)
        self.servers = Servers(network, tasks)

    def _worker_pids(self) -> list[int]:
        workers = (worker for mod in self.mods for worker in mod.keepers)
        return [worker.incarnation.pid for worker in workers if worker.incarnation is not None]

    def _resources_of(self, pid: int) -> dict[str, Any] | None:
        sample = self.monitor.of(pid)
        return None if sample is None else resources(sample).to_dict()

    def _saved(self, saved: Saved) -> None:
        for tell in self.saves:
            tell(saved)

    async def _late(self, journey: Journey, mod_id: str, outcome: Any) -> None:
        await self.gateway.late(journey, mod_id, outcome)

    def _on_cancel(self, incarnation: Any, request_id: int | None) -> None:
        self._requests.cancel(incarnation, request_id)

    def _on_request(self, keeper: Any, incarnation: Any, request: Any) -> None:
        self._requests.take(keeper, incarnation, request)


def _without_mods(kept: Kept, journal: Journal) -> Kept:
    """Forget which mods were loaded while the network last ran, and which were in quarantine."""
    for mod in kept.mods:
        journal.drop_mod(mod.mod_id)
    for mod_id in kept.quarantines:
        journal.release(mod_id)
    for family in kept.families:
        journal.keep_family(family, None)
    return replace(kept, mods=[], quarantines={}, families={}, clean=True)


def _not_running(event: Event | None = None) -> EventResponse:
    text = "the network is not running (not initialized yet, or shutting down)"
    response = EventResponse.failure(Code.NOT_RUNNING, text)
    response.event_name = event.event_name if event is not None else None
    return response


async def _refused(event: Event) -> EventResponse:
    return _not_running(event)


def _unwrapped(error: BaseException) -> BaseException:
    """The one cause inside the group that a task group raises."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
