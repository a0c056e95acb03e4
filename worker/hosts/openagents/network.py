"""What a mod of OpenAgents sees of its network: exactly what is named here.

Sending is a request to the core. All else is answered from the mirror, without waiting. A name that
is missing raises an AttributeError, so that their probes (``hasattr``, ``getattr`` with a default)
find it absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from openagents.models.event import Event as TheirEvent
from openagents.models.event_response import EventResponse as TheirResponse

from ....ipc.address import AGENT, BROADCAST, MOD, SYSTEM
from ....ipc.errors import Code
from ....ipc.event import EventResponse
from .. import Place
from .events import to_ours, to_their_response
from .mirror import Agent, Mirror
from .requests import Requests

_SYSTEM = frozenset({SYSTEM, f"{SYSTEM}:{SYSTEM}"})


class NotOffered(AttributeError):
    """A name of OpenAgents' network that modvisor does not offer to mods."""


class _Part:
    """A part of the network that offers what is defined in it, and nothing else."""

    _name = "network"

    def __init__(self, mod_path: str) -> None:
        self._mod_path = mod_path

    def __getattr__(self, name: str) -> NoReturn:
        raise NotOffered(
            f"mod {vars(self).get('_mod_path')}: {self._name}.{name} is not offered to mods in modvisor; "
            "docs/openagents.md lists what is"
        )


class Workspace(_Part):
    """Where mods keep their files."""

    _name = "network.workspace_manager"

    def __init__(self, mod_path: str, folder: Path) -> None:
        super().__init__(mod_path)
        self._folder = folder

    def get_mod_storage_path(self, mod_name: str) -> Path:
        """Return the mod's own folder; for another name, a folder in it. It exists."""
        folder = self._folder if mod_name == self._mod_path else self._folder / mod_name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class Topology(_Part):
    """Who is registered, and in which group."""

    _name = "network.topology"

    def __init__(self, mod_path: str, mirror: Mirror) -> None:
        super().__init__(mod_path)
        self.agent_registry: Mapping[str, Agent] = MappingProxyType(mirror.agents)
        self.agent_group_membership: Mapping[str, str] = MappingProxyType(mirror.groups)


class Gateway(_Part):
    """The channels. A change is seen here at once, and sent to the core.

    Attributes:
        is_muted: changes do nothing: the mod is shut down because its successor takes over, which
            has these channels.
    """

    _name = "network.event_gateway"

    def __init__(self, mod_path: str, mirror: Mirror) -> None:
        super().__init__(mod_path)
        self._channels = mirror.channels
        self.is_muted = False

    def create_channel(self, channel_id: str) -> None:
        if not self.is_muted:
            self._channels.create(channel_id)

    def add_channel_member(self, channel_id: str, agent_id: str) -> None:
        if not self.is_muted:
            self._channels.add(channel_id, agent_id)

    def remove_channel_member(self, channel_id: str, agent_id: str) -> None:
        """Remove a member. Raises ValueError if the channel exists without that member."""
        if not self.is_muted:
            self._channels.remove(channel_id, agent_id)

    def remove_channel(self, channel_id: str) -> None:
        if not self.is_muted:
            self._channels.close(channel_id)

    def get_channel_members(self, channel_id: str) -> list[str]:
        return self._channels.members(channel_id)


class Network(_Part):
    """Stands in for their ``AgentNetwork``."""

    def __init__(self, place: Place, mirror: Mirror, requests: Requests) -> None:
        super().__init__(place.mod_path)
        self.network_id = place.network_id
        self.network_name = place.context.network_name
        self.workspace_manager = Workspace(place.mod_path, place.context.storage_path)
        self.topology = Topology(place.mod_path, mirror)
        self.event_gateway = Gateway(place.mod_path, mirror)
        self._own_address = f"{MOD}:{place.context.mod_id}"
        self._log = place.context.log
        self._requests = requests

    async def process_event(self, event: TheirEvent) -> TheirResponse:
        """Send an event, and return the network's answer. A mistake in the event is an answer too."""
        return await self._send(event, event.destination_id)

    async def broadcast_event(self, event: TheirEvent) -> TheirResponse:
        """Send an event to all agents."""
        return await self._send(event, f"{AGENT}:{BROADCAST}")

    async def send_event_to_agent(self, agent_id: str, event: TheirEvent) -> TheirResponse:
        """Send an event to one agent."""
        return await self._send(event, agent_id)

    async def _send(self, event: TheirEvent, destination_id: str | None) -> TheirResponse:
        try:
            ours = to_ours(event, self._source_of(event), destination_id)
        except ValueError as error:  # InvalidEvent is one
            self._log.warning("event %s was not sent: %s", event.event_name, error)
            return to_their_response(EventResponse.failure(Code.INVALID_EVENT, str(error)))
        return to_their_response(await self._requests.send_event(ours))

    def _source_of(self, event: TheirEvent) -> str | None:
        """Return the source to send an event with: nobody but the network speaks as the system."""
        return self._own_address if event.source_id in _SYSTEM else event.source_id
