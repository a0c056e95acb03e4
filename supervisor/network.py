"""`AgentNetwork`: starts and stops a network.

What can be asked of a running network stands in `operations`, its parts in `wiring`. One task owns
all others: `initialize` makes it and `shutdown` ends it. Both only signal it, so that they may run
in different tasks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from ..ipc import __version__
from ..ipc.errors import Code, ModvisorError
from ..ipc.event import EventResponse
from .agents import OperatorTokens
from .calls import forget_last_run, left_by_last_run
from .clock import keep_beating
from .config import ModConfig, NetworkConfig, load_config, parse_config
from .fleet import ModRegistry
from .journal import Journal, JournalError, LastRun
from .operations import Operations
from .process import reserve
from .runtime import named_loop, open_missing_descriptors
from .wiring import NetworkParts

logger = logging.getLogger("modvisor.network")

EXPIRY_INTERVAL = 2.0  # seconds between looks for agents that stopped polling


class StartError(ModvisorError):
    """The network could not start: its core or a mod marked ``required`` failed."""

    code = Code.START_FAILED


class AgentNetwork(Operations):
    """An event network whose mods run in worker processes.

        async with AgentNetwork.load("network.yaml") as network:
            response = await network.load_mod("modvisor.mods.workspace.wiki")

    A mod or a request that fails is a response with ``success=False``, never an exception.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self._owner: asyncio.Task[None] | None = None

    @classmethod
    def load(cls, path: str | Path) -> AgentNetwork:
        """Read a network file. Starts nothing; raises `ConfigError`, which lists every mistake."""
        config = load_config(path)
        for warning in config.warnings:
            logger.warning("%s", warning)
        return cls(config)

    @classmethod
    def from_config(cls, config: dict[str, Any], *, base_dir: str | Path = ".") -> AgentNetwork:
        """Make a network from plain data in the shape of the file. Raises `ConfigError`."""
        return cls(parse_config(config, base_dir=Path(base_dir)))

    # -- life

    async def initialize(self, *, admin: bool = False, fresh: bool = False) -> bool:
        """Start the mods of the config, the mods that were loaded at the last run, and the servers.

        Agents are served over HTTP if the config names a port.

        Args:
            admin: serve the admin API on a unix socket in the state directory (`modvisor run`).
            fresh: load only the mods of the config, and forget quarantines. Agents, checkpoints,
                accepted events and dead letters stay.

        Raises:
            StartError: the core or a mod marked ``required`` failed. Nothing is left running.
            StateDirBusy: another network owns the state directory.
        """
        if self._owner is not None:
            raise StartError("the network is initialized already; shut it down first")
        open_missing_descriptors()
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
        """Drain and unload every mod, stop the servers, release the state directory.

        It may be called again.
        """
        owner = self._owner
        if owner is None or self._stop_requested is None:
            return
        self._stop_requested.set()
        await asyncio.shield(asyncio.wait([owner]))
        if self._owner is owner:  # else the network has been initialized again meanwhile
            self._owner = None
        if not owner.cancelled() and (error := owner.exception()) is not None:
            raise error

    async def wait_stopped(self) -> None:
        """Wait until the network has ended, whatever stopped it.

        Returns at once if it does not run.
        """
        if (owner := self._owner) is not None:
            await asyncio.wait([owner])

    async def __aenter__(self) -> AgentNetwork:
        await self.initialize()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()

    async def _own(self, started: asyncio.Future[None], admin: bool, fresh: bool) -> None:
        """Run the network. This task owns all others: no process and no lock outlives it."""
        assert self._stop_requested is not None
        with named_loop(), reserve.kept():
            await self._run(started, self._stop_requested, admin, fresh)

    async def _run(self, started: asyncio.Future[None], stop: asyncio.Event, admin: bool, fresh: bool) -> None:
        try:
            self._acquire()
            async with anyio.create_task_group() as tasks:
                parts = NetworkParts(self, tasks, serves=admin or self.config.port is not None)
                try:
                    await self._start(parts, admin, fresh)
                    started.set_result(None)
                    await stop.wait()
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

    async def _start(self, parts: NetworkParts, admin: bool, fresh: bool) -> None:
        self._started_at, self._started = time.time(), time.monotonic()
        parts.tasks.start_soon(keep_beating, parts.awake, name="clock")
        kept = await anyio.to_thread.run_sync(parts.journal.open)
        if fresh:
            kept = parts.records.without_mods(kept)
        if parts.cluster is not None:
            await parts.cluster.join()
        await self._note_deaths(parts.journal)
        await parts.audit.open(kept.audit_head)
        parts.tokens = OperatorTokens(kept.tokens)
        if parts.cluster is None:  # else all nodes keep them together
            parts.agents.restore(kept.agents, kept.channels, kept.private, kept.invites)
        parts.records.restore(kept)
        await anyio.to_thread.run_sync(parts.enforcement.open)
        parts.tasks.start_soon(parts.enforcement.run, name="enforcement")
        await _start_launcher(parts.mods)
        self._parts = parts
        parts.tasks.start_soon(parts.audit.run, name="audit")
        self.audit_note("network.start", detail={"version": __version__, "pid": os.getpid(), "uid": os.getuid()})
        _check_started(await self._load_mods(parts, kept))
        parts.tasks.start_soon(parts.mods.spares.run, name="spares")
        if parts.servers is not None:
            await parts.servers.start(admin=admin)
        parts.tasks.start_soon(self._background, parts)

    async def _note_deaths(self, journal: Journal) -> None:
        """Charge the durable events that the last run was ended by. A full disk must not stop a start."""
        marks = self.state_dir.marks
        try:
            await journal.note_deaths(await anyio.to_thread.run_sync(left_by_last_run, marks))
        except JournalError as error:
            logger.error("which events ended the last run is not noted: %s; they are tried again uncharged", error)
        else:
            forget_last_run(marks)

    async def _load_mods(self, parts: NetworkParts, kept: LastRun) -> list[tuple[ModConfig, EventResponse]]:
        """Load the mods of the file, then the mods that the journal kept.

        Returns the responses for the file's mods.

        A shutdown meanwhile cancels the loads.
        """
        assert self._stop_requested is not None
        outcomes: list[tuple[ModConfig, EventResponse]] = []
        async with anyio.create_task_group() as tasks:

            async def cancel_at_shutdown(stop: asyncio.Event) -> None:
                await stop.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(cancel_at_shutdown, self._stop_requested)
            # In a cluster all nodes keep together which mods were loaded.
            cluster = parts.cluster
            outcomes = await (parts.loading.start(kept.mods) if cluster is None else cluster.start(parts))
            parts.records.started()
            tasks.cancel_scope.cancel()
        if self._stop_requested.is_set():
            raise StartError("the network was shut down while it started", code=Code.NOT_RUNNING)
        return outcomes

    async def _stop(self, parts: NetworkParts) -> None:
        """Refuse new events, drain and end the mods, stop the servers, close the journal."""
        if parts.cluster is not None:
            await parts.cluster.leave()
        self._closing = True
        parts.background.cancel()
        if self._parts is not None and self.config.journal.stats_every is not None:
            self._keep_stats_now(parts)  # before the mods are unloaded
        await parts.commands.close()
        await parts.mods.close_launcher()
        if parts.servers is not None:
            await parts.servers.stop()
        await anyio.to_thread.run_sync(parts.enforcement.close)
        if parts.tracer is not None:
            await anyio.to_thread.run_sync(parts.tracer.close)
        self.refusals.tell()
        self.audit_note("network.stop", detail={"pid": os.getpid()})
        if parts.cluster is not None:
            self.everywhere = None
            await parts.cluster.close()
        self._parts, self._closing = None, False
        await parts.audit.close()
        await anyio.to_thread.run_sync(parts.journal.close)

    async def _background(self, parts: NetworkParts) -> None:
        """Expire agents and reload mods whose files were saved, until `_stop`."""
        with parts.background:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._expire_agents, parts, name="agent-expiry")
                tasks.start_soon(self._keep_stats, parts, name="stats")
                if parts.servers is not None:
                    tasks.start_soon(self._keep_history, parts, name="history")
                tasks.start_soon(parts.autoreload.run, name="watcher")

    async def _expire_agents(self, parts: NetworkParts) -> None:
        while True:
            await anyio.sleep(EXPIRY_INTERVAL)
            for agent_id in parts.agents.expired():
                with suppress(ModvisorError):  # what keeps it logs why; the agent stays, and expires again
                    await self.remove_agent(agent_id, "expired")


async def _start_launcher(mods: ModRegistry) -> None:
    try:
        await mods.start_launcher()
    except OSError as error:
        raise StartError(f"the process that starts the workers cannot be started: {error}") from None
    except ModvisorError as error:
        raise StartError(str(error)) from None


def _check_started(outcomes: list[tuple[ModConfig, EventResponse]]) -> None:
    """Raise `StartError` if a required mod failed."""
    if required := [response.message for mod, response in outcomes if mod.required and not response.success]:
        raise StartError("a required mod failed: " + "; ".join(str(message) for message in required))


def _unwrapped(error: BaseException) -> BaseException:
    """Return the one cause inside the group that a task group raises."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
