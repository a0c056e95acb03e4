"""The parent process: the network core and everything that keeps mods alive."""

from ..ipc.event import Event, EventResponse
from .config import ConfigError
from .network import AgentNetwork, StartError

__all__ = ["AgentNetwork", "ConfigError", "Event", "EventResponse", "StartError"]
