"""What can be asked of a running network: by a program, an agent, a mod or an operator.

Requests stand here. What only looks at the network stands in `inspection`.

`AgentNetwork` inherits these operations and adds the life of what they work on. The system commands
and the HTTP servers are typed on `Operations`, and know nothing of that life.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from ..ipc.address import AGENT
from ..ipc.errors import Code, ModvisorError
from ..ipc.event import Event, EventResponse
from .agent_operations import AgentOperations
from .agents import Stream
from .audited import not_running
from .config import ModConfig, NetworkConfig, changed_keys, in_force, load_config, mod_config
from .events import DeadLetters
from .fleet import Changes
from .sources import HOW_TO_INSTALL, can_watch

logger = logging.getLogger("modvisor.network")


class Operations(AgentOperations):
    """The requests that a network takes.

    A request that fails is a response with ``success=False``, never an exception. Methods that do
    not return a response name the errors that they raise. While the network does not run, a request
    fails with ``not_running``.

    Attributes:
        read_file: reads the network file again, if a run overrides keys of it.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self._stop_requested: asyncio.Event | None = None
        self._reconfiguring = anyio.Lock()
        self.read_file: Callable[[], NetworkConfig] | None = None

    # -- events

    def process_event(self, event: Event) -> Coroutine[Any, Any, EventResponse]:
        """Process a trusted event from inside, whatever its source says.

        Await the result at once: the event's time begins with this call.
        """
        if self._parts is None or self._closing:
            return _refused(event)
        # Returned without an await, which would cost every event one coroutine more.
        return self._parts.gateway.from_inside(event)

    async def process_external_event(
        self, event: Event, *, address: str | None = None, keep: bool = True
    ) -> EventResponse:
        """Process an event from outside: it must come from an agent and carry its secret.

        Args:
            address: the name under which the sender's address is counted, such as ``192.0.2.7``;
                None: no count per address holds for it.
            keep: leave the caller's event as it is. Without it, the network takes the event over,
                which saves a copy; nobody else may hold its data then.
        """
        if self._parts is None or self._closing:
            return not_running(event)
        return await self._parts.gateway.from_outside(event, address, keep=keep)

    async def poll_events(self, agent_id: str, *, wait: float = 0.0, limit: int | None = None) -> list[Event]:
        """Take the events out of an agent's inbox.

        Args:
            wait: seconds to wait for an event if the inbox is empty.
            limit: take at most so many.

        Raises:
            ModvisorError: no_such_agent or not_running.
        """
        agent = self._agent(agent_id)
        return await self._running().agents.poll(agent, wait, limit)

    async def bring_home(self, agent_id: str) -> None:
        """Have this node hold what waits for an agent, before a stream of it is opened. One node alone always does.

        Raises:
            ModvisorError: no_such_agent or not_running; or why it cannot be brought here. The agent may try again.
        """
        agent = self._agent(agent_id)
        await self._running().agents.bring_home(agent)

    def is_home(self, agent_id: str) -> bool:
        """Return whether this node holds what waits for an agent. Raises as `bring_home`."""
        agent = self._agent(agent_id)
        return self._running().agents.is_home(agent)

    def open_stream(self, agent_id: str, wake: Callable[[], None], cursor: str | None = None) -> Stream:
        """Begin to push an agent's events to a connection; see `Stream`. A former stream of the agent ends.

        Raises:
            ModvisorError: no_such_agent or not_running.
        """
        agent = self._agent(agent_id)
        return self._running().agents.open_stream(agent, wake, cursor)

    def dropped_events(self, agent_id: str) -> dict[str, Any] | None:
        """Return what an agent's inbox dropped or refused since this was last asked.

        ``events``: how many; ``sources``: how many of each source. None: nothing.

        Raises:
            ModvisorError: not_running.
        """
        agents = self._running().agents
        agent = agents.get(agent_id.removeprefix(f"{AGENT}:"))
        losses = agents.take_losses(agent) if agent is not None else None
        return None if losses is None else losses.to_dict()

    # -- mods

    async def load_mod(
        self, mod_path: str, config: dict[str, Any] | None = None, *, mod_id: str | None = None, **more: Any
    ) -> EventResponse:
        """Load a mod, after the mods that it requires and that are not loaded yet.

        ``data``: mod_id, mod_path, version, pid, patterns; dependencies (ids of the mods loaded
        with it).

        Several versions of a mod run side by side, each under an id of its own:
        ``load_mod("./wiki", version="2.0", mod_id="wiki@2")``.

        Args:
            more: other keys of a mod's entry in the network file: ``version``, ``python``,
                ``paths``, ``env``, ``limits`` …
        """
        if self._parts is None:
            return not_running()
        try:
            mod = self._entry(mod_path, mod_id=mod_id, config=config, **more)
        except ModvisorError as error:
            return _bad_entry(mod_path, error)
        detail = {"mod_path": mod_path, "version": more.get("version"), "keys": sorted(more)}
        return await self._recorded("mod.load", mod.mod_id, lambda parts: parts.orders.load(mod), **detail)

    async def unload_mod(self, mod: str, *, timeout: float | None = None, cascade: bool = False) -> EventResponse:
        """Drain a mod (by id or path) and end its worker.

        ``data``: mod_id, mod_path, unloaded (ids of all mods that were unloaded).

        Args:
            timeout: seconds in which the mod must have ended.
            cascade: unload the mods that need it first. Without it, a mod that is needed is refused
                (``needed``).
        """
        return await self._recorded(
            "mod.unload", mod, lambda parts: parts.orders.unload(mod, timeout, cascade=cascade), cascade=cascade
        )

    async def reload_mod(
        self, mod: str, mod_path: str | None = None, config: dict[str, Any] | None = None
    ) -> EventResponse:
        """Replace a mod's worker by one with fresh code and hand over the state.

        On failure the old worker stays.

        During the mod's ``probation`` after that, a crash or a jump in errors brings the previous
        version back.

        ``data``: mod_id, mod_path, pause_ms (how long events waited), queued (how many events
        waited), state_bytes, ``from`` and ``to`` (versions). After a failure: error, step, and the
        error's details.

        Args:
            mod_path: the new place of the code, if it changes.
            config: the new free-form part of the mod's config, if it changes.
        """
        detail = {"mod_path": mod_path, "config": config is not None}
        return await self._recorded(
            "mod.reload", mod, lambda parts: parts.orders.reload(mod, config, mod_path), **detail
        )

    async def restart_mod(self, mod: str) -> EventResponse:
        """Start a new incarnation of the version that was last ready.

        It brings back a mod that is quarantined, has failed or has ended.
        """
        return await self._recorded("mod.restart", mod, lambda parts: parts.orders.restart(mod))

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
        """Replace a loaded mod (by id or path) by another mod and hand over the state.

        On failure the old mod stays.

        The new mod takes the old mod's place in the load order, and the events that waited for it.
        Other arguments are as in `load_mod`, and ``data`` as in `reload_mod`, with former_id.

        Args:
            mod_id: the new mod's id; the last part of ``mod_path`` if left out.
            alias: let the old id name the new mod.
        """
        if self._parts is None:
            return not_running()
        try:
            wanted = self._entry(mod_path, mod_id=mod_id, config=config, **more)
        except ModvisorError as error:
            return _bad_entry(mod_path, error)
        detail = {"mod_path": mod_path, "mod_id": wanted.mod_id, "version": more.get("version"), "keys": sorted(more)}
        return await self._recorded(
            "mod.swap", mod, lambda parts: parts.orders.swap(mod, wanted, alias=alias), **detail
        )

    def _entry(self, mod_path: str, **asked: Any) -> ModConfig:
        mod = mod_config(mod_path, base_dir=self.config.base_dir, **asked)
        if mod.watch and not can_watch():
            raise ModvisorError(HOW_TO_INSTALL, code=Code.BAD_INPUT)
        return mod

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
        """Change whose events a mod (by id or path) gets, from the next event on.

        Nothing is restarted.

        ``data``: mod_id, and what `get_audience` says of its family.

        Args:
            percent: a share of the sources, from 0 to 100.
            groups: groups of agents.
            agents: sources such as ``alice`` or ``mod:shop``. What is left out of these three stays
                as it is; an empty list removes all of a kind.
            everyone: remove the mod's own audience: it becomes the default version, unless there is
                another one.
        """
        audience: dict[str, Any] = {"percent": percent, "groups": groups, "agents": agents}
        return await self._recorded(
            "mod.audience",
            mod,
            lambda parts: parts.orders.set_audience(mod, everyone=everyone, **audience),
            everyone=everyone,
            **audience,
        )

    def get_audience(self, mod: str) -> EventResponse:
        """Describe the family of a mod (by the family's name, or a mod's id or path).

        ``data``: family, default (the version of all other sources, or None), promotions (those
        that `rollback_mod` can take back), versions (each with reaches, share of the events,
        latencies).
        """
        return not_running() if self._parts is None else self._parts.families.show(mod)

    async def promote_mod(self, mod: str) -> EventResponse:
        """Give a version the events of every source at once.

        The other versions stay loaded without events.
        """
        return await self._recorded("mod.promote", mod, lambda parts: parts.orders.promote(mod))

    async def rollback_mod(self, mod: str) -> EventResponse:
        """Take back the newest promotion of a family (by its name, or a mod's id or path)."""
        return await self._recorded("mod.rollback", mod, lambda parts: parts.orders.rollback(mod))

    # -- the network as a whole

    @property
    def dead_letters(self) -> DeadLetters:
        """The events that were given up. Raises `ModvisorError` (not_running)."""
        return self._running().dead_letters

    async def backup(self, target: str | Path) -> int:
        """Copy the journal into a file while the network runs. Returns the copy's size in bytes.

        The journal holds agents, mods, checkpoints, accepted events and dead letters.

        Raises:
            ModvisorError: not_running, or why the copy could not be written.
        """
        copy = partial(self._running().journal.backup, Path(target))
        return await self.audited("network.backup", on=str(target), do=copy)

    async def reconfigure(self, config: NetworkConfig) -> Changes:
        """Apply a changed network file: unload removed mods, reload changed mods, load new mods.

        `Changes` names every changed key that was applied, and every key that needs a restart.

        Raises:
            ModvisorError: not_running.
        """
        async with self._reconfiguring:
            return await self._reconfigured(config)

    async def read_file_again(self) -> Changes:
        """Read the network file again, with the options of this run, and apply it.

        Raises:
            ConfigError: the file has mistakes; nothing is changed.
            ModvisorError: not_running, or conflict: the network was started without a file.
        """
        file = self.config.file
        if file is None:
            text = "the network was started without a file, so there is no file to read again"
            raise ModvisorError(text, code=Code.CONFLICT)
        async with self._reconfiguring:
            read = self.read_file or partial(load_config, file, node=self.config.node)
            return await self._reconfigured(await anyio.to_thread.run_sync(read))

    async def _reconfigured(self, config: NetworkConfig) -> Changes:
        """Apply a configuration, and record it as its own `audit.mode` says."""
        changed = [key.name for key in changed_keys(self.config, config)]
        reconfigure = partial(self._reconfigure, config)
        detail = {"keys": changed, "file": None if config.file is None else str(config.file)}
        return await self.audited("network.reconfigure", do=reconfigure, detail=detail, mode=config.audit.mode)

    async def _reconfigure(self, config: NetworkConfig) -> Changes:
        parts, taken = self._running(), in_force(self.config, config)
        changes = await parts.orders.reconfigure(self.config, config)
        parts.agents.use_groups(taken.agent_groups, taken.agents)
        self.config = taken
        return changes

    def request_stop(self) -> None:
        """Begin to shut down, without waiting for the end. It may be called again."""
        if self._stop_requested is not None:
            self._stop_requested.set()


def _bad_entry(mod_path: str, error: ModvisorError) -> EventResponse:
    return EventResponse.failure(error.code, f"{mod_path}: {error}", mod_path=mod_path)


async def _refused(event: Event) -> EventResponse:
    return not_running(event)
