"""modvisor: an event network for AI agents whose mods each run in a worker process.

This is the face: `from modvisor import AgentNetwork, Event, BaseMod`. A name is imported when it is
first used, so that a worker, which needs only `modvisor.mods`, never imports the network core.
"""

# pyright: reportMissingImports=false
# The sub-packages lie beside this folder, not in it; only an installed package has them below it.

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ipc import __version__
    from .mods import BaseMod, Event, EventResponse, ModContext, Refused, mod_event_handler, partition_of
    from .supervisor import AgentNetwork, ConfigError, StartError

__all__ = [
    "AgentNetwork",
    "BaseMod",
    "ConfigError",
    "Event",
    "EventResponse",
    "ModContext",
    "Refused",
    "StartError",
    "__version__",
    "mod_event_handler",
    "partition_of",
]

_HOMES = {
    "AgentNetwork": ".supervisor",
    "ConfigError": ".supervisor",
    "StartError": ".supervisor",
    "__version__": ".ipc",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES.get(name, ".mods"), __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
