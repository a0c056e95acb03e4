"""The parent process: the network core, and all that keeps mods alive.

The folders are rooms; each imports only rooms below it. On top of them stand the files here:
`inspection` (what can be seen of a network), `operations` (what can be asked of it), `commands`
(the same as `system.*` events, with permissions), `wiring` (puts the parts together), `network`
(its start and end), `clock` (time without pauses), `runtime` (sets up the process of `modvisor
run`), `faces` (lazy re-exports).
"""

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
