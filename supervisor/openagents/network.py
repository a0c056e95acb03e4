"""`AgentNetwork` by the names of OpenAgents: what a program embeds, over a network of ours."""

from __future__ import annotations

import logging
import secrets
import shutil
import tempfile
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...ipc.errors import ModvisorError
from ...ipc.event import EventResponse
from ..config import ConfigError, NetworkConfig, load_config, parse_config
from .core import Core
from .event import as_ours
from .gateway import EventGateway
from .given import network_data
from .mods import Mods
from .stats import dynamic_mods, network_stats
from .topology import AgentConnection, SecretManager, Topology
from .unknown import Named

logger = logging.getLogger("modvisor.openagents")

FILE_NAME = "network.yaml"


class AgentNetwork(Named):
    """A network that a program embeds.

    Make one with `load` or `create_from_config`. With a workspace, what must outlive the program
    is kept there; without one it is gone after the shutdown.

    Attributes:
        config: the configuration that the program gave, or that of the file.
        mods: the loaded mods by path.
    """

    def __init__(self, config: Any, workspace_path: str | Path | None = None) -> None:
        made = config if isinstance(config, NetworkConfig) else _parsed(config, workspace_path)
        self._temporary = _temporary_folder() if workspace_path is None else None
        root = self._temporary or Path(workspace_path or ".").absolute()
        self._core = core = Core(replace(made, storage=root / ".modvisor"))
        for warning in made.warnings:
            logger.warning("%s", warning)
        self.config = config
        self.network_id, self.network_name = made.network_id, made.name
        self.start_time: float | None = None
        self._remove: weakref.finalize[..., AgentNetwork] | None = None
        self.metadata: dict[str, Any] = {}
        self.topology = Topology(core)
        self.secret_manager = SecretManager(core)
        self.event_gateway = self.events = EventGateway(core)
        self.mods = Mods(core)

    @staticmethod
    def create_from_config(
        config: Any, port: int | None = None, workspace_path: str | Path | None = None
    ) -> AgentNetwork:
        """Make a network from a configuration: OpenAgents' own, a mapping, or an object like them.

        Raises:
            ValueError: the configuration has mistakes; the text lists them.
        """
        network = AgentNetwork(config, workspace_path)
        network._listen_on(port)
        return network

    @staticmethod
    def load(
        config: str | Path | None = None, port: int | None = None, workspace_path: str | Path | None = None
    ) -> AgentNetwork:
        """Make a network from a file of OpenAgents or of modvisor.

        Args:
            config: the file; None: ``network.yaml`` in the workspace.
            port: listen on this port instead of the file's.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file has mistakes; the text lists them.
            TypeError: ``config`` names no file.
        """
        file = _file(config, workspace_path)
        try:
            read = load_config(file, base_dir=workspace_path)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        network = AgentNetwork(read, workspace_path)
        network._listen_on(port)
        return network

    def _listen_on(self, port: int | None) -> None:
        if port is not None:
            self._core.config = replace(self._core.config, port=port)

    # -- life

    @property
    def is_running(self) -> bool:
        return self._core.is_running

    @property
    def port(self) -> int | None:
        """The TCP port that the network listens on, or None."""
        return self._core.port

    async def initialize(self) -> bool:
        """Start the network and its mods. Returns False if it cannot start; the log says why.

        A mod that fails does not stop it.
        """
        try:
            if self._temporary is not None:
                self._temporary.mkdir(0o700)
                self._remove = weakref.finalize(self, shutil.rmtree, self._temporary, True)
            await self._core.initialize()
        except (ModvisorError, OSError) as error:
            logger.error("the network did not start: %s", error)
            return False
        self.start_time = time.time()
        return True

    async def shutdown(self) -> bool:
        """End every mod and the network."""
        await self._core.shutdown()
        if self._remove is not None:
            self._remove()
        return True

    # -- events

    async def process_event(self, event: Any) -> EventResponse:
        """Process an event from inside, which needs no secret; see `EventGateway.process_event`."""
        return await self.event_gateway.process_event(event)

    async def process_external_event(self, event: Any) -> EventResponse:
        """Process an event from outside: it must come from an agent and carry its ``secret``."""
        return await self._core.process_external_event(as_ours(event))

    # -- agents

    async def register_agent(
        self,
        agent_id: str,
        transport_type: Any = None,
        metadata: dict[str, Any] | None = None,
        certificate: str | None = None,
        force_reconnect: bool = False,
        password_hash: str | None = None,
        requested_group: str | None = None,
    ) -> EventResponse:
        """Register an agent. ``data``: agent_id, secret, assigned_group and more.

        Args:
            transport_type, certificate: are not used here.
            force_reconnect: take over the id of an agent that is registered.
            password_hash: the SHA-256 of a group's password.
            requested_group: the group to join; None: the one with that password, or the default.
        """
        try:
            return await self._core.add_agent(
                agent_id.removeprefix("agent:"),
                metadata or {},
                group=requested_group,
                password_hash=password_hash,
                retake=force_reconnect or self._is_left_over(agent_id),
            )
        except ModvisorError as error:
            return EventResponse.failure(error.code, str(error))

    def _is_left_over(self, agent_id: str) -> bool:
        """Whether an agent was registered in a previous run: this program knows nothing of it."""
        agents = self._core.agents
        agent = agents.get(agent_id) if agents is not None else None
        return agent is not None and self.start_time is not None and agent.registered_at < self.start_time

    async def unregister_agent(self, agent_id: str) -> EventResponse:
        """Forget an agent."""
        return await self._core.unregister_agent(agent_id.removeprefix("agent:"))

    def get_agent_registry(self) -> dict[str, AgentConnection]:
        """Return all agents by id."""
        return self.topology.get_agent_registry()

    def get_agent(self, agent_id: str) -> AgentConnection | None:
        """Return an agent, or None."""
        return self.topology.get_agent_connection(agent_id)

    # -- mods

    async def load_mod(self, mod_path: str, config: dict[str, Any] | None = None, **more: Any) -> EventResponse:
        """Load a mod into a process of its own. ``data``: mod_id, mod_path and more.

        Args:
            more: as for `modvisor.AgentNetwork.load_mod`: ``mod_id``, ``limits`` …
        """
        return await self._core.load_mod(mod_path, config, **more)

    async def unload_mod(self, mod_path: str) -> EventResponse:
        """Drain a mod, by path or id, and end its process."""
        return await self._core.unload_mod(mod_path)

    async def reload_mod(self, mod_path: str) -> EventResponse:
        """Replace a mod's process by one with fresh code, and hand over its state. OpenAgents has no such call."""
        return await self._core.reload_mod(mod_path)

    def get_loaded_mods(self) -> dict[str, dict[str, Any]]:
        """Return the mods that `load_mod` has loaded, by id. Each: mod_id, mod_path, loaded_at and more."""
        return dynamic_mods(self._core)

    # -- figures

    def get_network_stats(self) -> dict[str, Any]:
        """Return figures by the names of OpenAgents; ``modvisor`` holds all figures of ours."""
        return network_stats(self._core, self.topology)


def create_network(config: Any) -> AgentNetwork:
    """Make a network from a file, or from a configuration."""
    return AgentNetwork.load(config) if isinstance(config, str | Path) else AgentNetwork.create_from_config(config)


def _temporary_folder() -> Path:
    """Return the name of a folder that is made at the start, and removed at the end."""
    return Path(tempfile.gettempdir(), f"modvisor-{secrets.token_hex(8)}")


def _parsed(config: Any, workspace_path: str | Path | None) -> NetworkConfig:
    try:
        return parse_config(network_data(config), base_dir=workspace_path or ".")
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _file(config: Any, workspace_path: str | Path | None) -> Path:
    if config is None:
        if workspace_path is None:
            raise ValueError("give the network file, or a workspace_path with a network.yaml in it")
        file = Path(workspace_path) / FILE_NAME
    elif isinstance(config, str | Path):
        file = Path(config)
    else:
        text = (
            f"config: expected the name of a file, got {type(config).__name__}; use create_from_config() for an object"
        )
        raise TypeError(text)
    if not file.exists():
        raise FileNotFoundError(f"no network file {file}")
    return file
