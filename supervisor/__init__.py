"""The parent process: the network core and everything that keeps mods alive."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..ipc.event import Event, EventResponse
    from .config import ConfigError
    from .network import AgentNetwork, StartError

__all__ = ["AgentNetwork", "ConfigError", "Event", "EventResponse", "StartError"]

# Imported when asked for: the command line lives below this package, and `modvisor ps` needs none
# of the core (120 ms).
_HOMES = {
    "AgentNetwork": ".network",
    "ConfigError": ".config",
    "Event": "..ipc.event",
    "EventResponse": "..ipc.event",
    "StartError": ".network",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home, __name__), name)
    return value
