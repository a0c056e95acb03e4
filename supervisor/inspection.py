"""What can be seen of a running network: its health, its figures, its mods, their logs.

Nothing here changes it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from heapq import merge
from pathlib import Path
from typing import Any, Protocol, TypeVar

import anyio.to_thread

from ..ipc.address import check_mod_id
from ..ipc.errors import Code, ModvisorError
from ..ipc.event import Event, EventResponse
from .agents import AgentRegistry, OperatorTokens
from .audit import Audit
from .calls import NetworkCounters
from .config import ModConfig, NetworkConfig, Redaction
from .events import DeadLetters, Gateway, Ways
from .fleet import (
    Audiences,
    Autoreload,
    Everywhere,
    History,
    Loading,
    ModCommands,
    ModRegistry,
    ModRows,
    NetworkView,
    Orders,
    Plans,
    Readiness,
    ResourceMonitor,
    Saved,
    agent_directory,
    describe_mods,
    health,
    loaded_mods,
    network_stats,
    readiness,
    supervisor_stats,
)
from .journal import Journal, StateDir
from .lifecycle import Keeper
from .metrics import Figures, Series, figures_of, series_of
from .process import read_tail
from .sources import available

LISTENER_SIZE = 10_000  # items that a slow listener may lag behind

Item = TypeVar("Item")
Put = Callable[[Item], None]
Finished = tuple[Event, EventResponse]


class Parts(Protocol):
    """The parts of a running network that operations use. `wiring` makes them."""

    journal: Journal
    audit: Audit
    tokens: OperatorTokens
    agents: AgentRegistry
    mods: ModRegistry
    commands: ModCommands
    gateway: Gateway
    monitor: ResourceMonitor
    families: Audiences
    dead_letters: DeadLetters
    loading: Loading
    orders: Orders
    autoreload: Autoreload
    saves: list[Callable[[Saved], None]]
    history: History
    plans: Plans
    rows: ModRows
    ways: Ways

    @property
    def port(self) -> int | None:
        """The TCP port that the network listens on, or None."""
        ...

    @property
    def at_the_edge(self) -> dict[str, Any]:
        """The figures of what stands around the network, as `Figures` has them."""
        ...


class Inspection:
    """What can be seen of a network.

    Before it runs, and after it, there are no mods and no agents to be seen.

    Attributes:
        everywhere: looks at all nodes of a cluster; None without one.
    """

    def __init__(self, config: NetworkConfig) -> None:
        self.config = config
        self.state_dir = StateDir(config.storage)
        self.counters = NetworkCounters()
        self.everywhere: Everywhere | None = None
        self._parts: Parts | None = None
        self._started_at = 0.0  # wall clock
        self._started = 0.0  # monotonic clock
        self._output_lost = 0
        self._closing = False  # events in flight finish, new events are refused

    @property
    def is_running(self) -> bool:
        return self._parts is not None

    def _running(self) -> Parts:
        if self._parts is None:
            raise ModvisorError("the network is not running; call initialize() first", code=Code.NOT_RUNNING)
        return self._parts

    # -- the network

    @property
    def redaction(self) -> Redaction:
        """What is masked in all that people see of the network."""
        return self._parts.mods.redaction if self._parts is not None else Redaction(self.config.redact)

    @property
    def port(self) -> int | None:
        """The TCP port that the network listens on, or None."""
        return self._parts.port if self._parts is not None else None

    @property
    def address(self) -> str | None:
        """The URL at which agents reach this process, or None."""
        if self.port is None:
            return None
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"{'http' if self.config.tls is None else 'https'}://{host}:{self.port}"

    @property
    def uptime(self) -> float:
        return time.monotonic() - self._started if self._parts is not None else 0.0

    def health(self) -> dict[str, Any]:
        """Return what ``GET /api/health`` shows to anybody."""
        return health(self._view()).to_dict()

    def readiness(self) -> Readiness:
        """Return whether the network takes events and every mod marked ``required`` serves."""
        return replace(readiness(self._view()), is_running=self.is_running and not self._closing)

    def look_everywhere(self, node: str | None) -> Everywhere | None:
        """Return what looks at all nodes; None without a cluster. Raises `ModvisorError` if a node is named then."""
        if self.everywhere is None and node is not None:
            text = f"this network has no nodes, and {node!r} was named; it has no 'cluster' section in its file"
            raise ModvisorError(text, code=Code.BAD_INPUT)
        return self.everywhere

    async def metric_series(self) -> Series:
        """Return the series of all metrics, as plain data."""
        figures = await self.figures()
        return await anyio.to_thread.run_sync(series_of, figures)

    async def figures(self) -> Figures:
        """Return what is counted and measured, as metrics are made of it."""
        more = {} if self._parts is None else self._parts.at_the_edge
        tells = self.everywhere is None or self.everywhere.is_first
        return await figures_of(self._view(), tells_shared=tells, **more)

    def agent_directory(self) -> dict[str, dict[str, Any]]:
        """Return the registered agents as ``GET /api/health`` shows them to an agent."""
        agents = self._parts.agents if self._parts is not None else ()
        return {agent_id: entry.to_dict() for agent_id, entry in agent_directory(agents).items()}

    def get_network_stats(self) -> dict[str, Any]:
        """Return everything that is counted and measured.

        Reads memory only; samples are at most seconds old.
        """
        return network_stats(self._view()).to_dict()

    def supervisor_figures(self) -> dict[str, Any]:
        """Return what the network's own process uses."""
        return supervisor_stats(self._view()).to_dict()

    def lost_output(self) -> None:
        """Count a message that this process could not write to its stdout or stderr."""
        self._output_lost += 1

    def _view(self) -> NetworkView:
        return NetworkView(
            self.config, self.counters, self._started_at, self.uptime, self.port, self._parts, self._output_lost
        )

    async def sample_resources(self) -> None:
        """Take a resource sample now instead of at the next tick.

        Raises `ModvisorError` (not_running).
        """
        await self._running().monitor.sample()

    # -- its mods

    def get_loaded_mods(self) -> dict[str, dict[str, Any]]:
        """Return the loaded mods by id, in load order.

        Each: mod_id, mod_path, loaded_at, state, pid, version.
        """
        return {mod_id: mod.to_dict() for mod_id, mod in loaded_mods(self._view().mods).items()}

    def mods_here(self) -> set[str]:
        """Return the ids of the mods of which this process runs a worker."""
        return {mod.mod_id for mod in self._view().mods if mod.keepers}

    def mod_nodes(self) -> dict[str, str | None]:
        """Return the node that runs each loaded mod, by id; None: no node does now, or there is no cluster."""
        own = None if self.config.cluster is None else self.config.cluster.node
        return {mod.mod_id: own if mod.keepers else getattr(mod, "node", None) for mod in self._view().mods}

    async def available_mods(self) -> list[dict[str, Any]]:
        """Find what could be loaded, without importing any of it. The network need not run.

        Each: name, mod_path, source (network, mod_paths, bundled, installed), where, versions
        (first the one that is loaded by default), description, requires, optional, error (why it
        cannot be loaded), loaded (ids of the mods loaded from it).
        """
        found = await anyio.to_thread.run_sync(available, self.config)
        loaded = self.get_loaded_mods().values()
        return [
            {**mod.to_dict(), "loaded": [each["mod_id"] for each in loaded if each["mod_path"] == mod.mod_path]}
            for mod in found
        ]

    def describe_mods(self) -> list[dict[str, Any]]:
        """Return the loaded mods as agents see them, in load order."""
        return [mod.to_dict() for mod in describe_mods(self._view().mods)]

    def get_crashes(self, mod: str | None = None) -> list[dict[str, Any]]:
        """Return the reports of incarnations that crashed, oldest first.

        Args:
            mod: id or path of a mod. None: the reports of all mods.

        Raises:
            ModvisorError: no_such_mod or not_running.
        """
        mods = self._running().mods
        keepers = [worker for one in mods for worker in one.keepers] if mod is None else self._loaded_workers(mod)
        since = self._crashes_since()
        reports = [report for keeper in keepers for report in keeper.crashes if report.at >= since]
        return [report.to_dict() for report in sorted(reports, key=lambda report: report.at)]

    def _crashes_since(self) -> float:
        """Return the wall time of the oldest crash report to show.

        At the start the journal has dropped what was too old; this run has none before it is as old.
        """
        age = self.config.journal.crash_report_age
        return time.time() - age if self.uptime > age else 0.0

    def mod_log(self, mod: str, lines: int = 100) -> list[str]:
        """Return the last lines of a mod's log.

        A mod that is no longer loaded is found by its id.

        Raises:
            ModvisorError: the mod is not loaded and has left no log, or ``mod`` names no mod.
        """
        workers = self._workers_of(mod)
        if not workers:
            return read_tail(self._left_log(mod), lines)
        tails = [read_tail(self.state_dir.log_file(worker.mod_id), lines) for worker in workers]
        return list(merge(*tails))[-lines:] if lines else []  # each line begins with its time

    def check_has_log(self, mod: str) -> None:
        """Raise `ModvisorError` unless the mod, or the worker ``wiki#1``, is loaded or has left a log."""
        if not self._workers_of(mod):
            self._left_log(mod)

    def _left_log(self, mod: str) -> Path:
        """Return the log of a mod that is not loaded. Its name becomes a file's, so it must be an id."""
        name, is_worker, index = mod.partition("#")
        check_mod_id(name)
        if is_worker and not (index.isascii() and index.isdecimal()):
            text = f"mod {mod!r}: expected the number of a worker after '#', such as {name}#0"
            raise ModvisorError(text, code=Code.BAD_INPUT, mod=mod)
        file = self.state_dir.log_file(mod)
        if not file.exists():
            raise ModvisorError(f"mod {mod!r} is not loaded and has left no log", code=Code.NO_SUCH_MOD, mod=mod)
        return file

    @property
    def watched_mods(self) -> list[str]:
        """The ids of the loaded mods that are reloaded when their files are saved."""
        mods = self._parts.mods if self._parts is not None else ()
        return [mod.mod_id for mod in mods if self._is_watched(mod.config)]

    def _is_watched(self, mod: ModConfig) -> bool:
        return self.config.watch if mod.watch is None else mod.watch

    def _loaded_workers(self, mod: str) -> list[Keeper]:
        if workers := self._workers_of(mod):
            return workers
        raise ModvisorError(f"no mod {mod!r} is loaded", code=Code.NO_SUCH_MOD)

    def _workers_of(self, mod: str) -> list[Keeper]:
        """Return the workers of a mod (by id or path), or the one worker that ``wiki#1`` names."""
        if self._parts is None:
            return []
        name, _, index = mod.partition("#")
        found = self._parts.mods.named(name if index.isdecimal() else mod)
        if isinstance(found, EventResponse):
            if found.error == Code.NO_SUCH_MOD:
                return []
            raise ModvisorError(str(found.message), code=found.error)
        workers = found.keepers
        return [worker for worker in workers if worker.mod_id == mod] if index.isdecimal() else workers

    # -- what happens from now on

    def tap(
        self, wanted: Callable[[Finished], bool] = lambda each: True
    ) -> AbstractContextManager[asyncio.Queue[Finished]]:
        """Follow the finished events with their responses.

        A reader that lags loses the newest ones.

        The events belong to the network: read them, do not change them.

        Args:
            wanted: returns whether an event is put into the queue. It is called at once with each.
        """
        taps = self._running().gateway.taps
        return _listened((taps.append, taps.remove), wanted=wanted)

    def follow_log(self, mod: str) -> AbstractContextManager[asyncio.Queue[str]]:
        """Follow the new lines of a loaded mod's log. A reader that lags loses the newest ones.

        Raises:
            ModvisorError: no_such_mod or not_running.
        """
        self._running()
        logs = [worker.log for worker in self._loaded_workers(mod)]
        return _listened(*((log.add_listener, log.remove_listener) for log in logs))

    def follow_saves(self) -> AbstractContextManager[asyncio.Queue[Saved]]:
        """Follow what was reloaded because its files were saved, and what could not be reloaded."""
        saves = self._running().saves
        return _listened((saves.append, saves.remove))


@contextmanager
def _listened(
    *listeners: tuple[Callable[[Put[Item]], None], Callable[[Put[Item]], None]],
    wanted: Callable[[Item], bool] = lambda item: True,
) -> Iterator[asyncio.Queue[Item]]:
    """Make a queue that is fed until the block ends; while it is full, new items are dropped.

    Args:
        listeners: for each source of items, how to add a listener and how to remove it.
        wanted: returns whether an item is put into the queue.
    """
    queue: asyncio.Queue[Item] = asyncio.Queue(LISTENER_SIZE)

    def put(item: Item) -> None:
        if wanted(item) and not queue.full():
            queue.put_nowait(item)

    for add, _ in listeners:
        add(put)
    try:
        yield queue
    finally:
        for _, remove in listeners:
            remove(put)
