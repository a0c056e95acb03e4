"""The names of OpenAgents over a network of modvisor: change one import line, and keep the program.

    from modvisor.openagents import AgentNetwork, Event

`BaseMod` and `mod_event_handler` are OpenAgents' own, for the code of mods: they are imported when
they are first used. Nothing else here imports openagents. docs/openagents.md lists what works.
"""

# pyright: reportMissingImports=false
# The sub-packages lie beside this folder, not in it; only an installed package has them below it.

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ipc.event import EventResponse
    from .supervisor.openagents import AgentNetwork, Event, create_network

    BaseMod: Any
    mod_event_handler: Any

__all__ = ["AgentNetwork", "BaseMod", "Event", "EventResponse", "create_network", "mod_event_handler"]

_OURS = {
    "AgentNetwork": ".supervisor.openagents",
    "Event": ".supervisor.openagents",
    "EventResponse": ".ipc.event",
    "create_network": ".supervisor.openagents",
}
_THEIRS = "openagents.sdk.base_mod"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; docs/openagents.md lists what it has")
    home = _OURS.get(name)
    value = globals()[name] = getattr(_theirs(name) if home is None else import_module(home, "modvisor"), name)
    return value


def _theirs(name: str) -> Any:
    try:
        return import_module(_THEIRS)
    except ModuleNotFoundError as error:
        if error.name != "openagents":
            raise
        text = (
            f"modvisor.openagents.{name} is OpenAgents' own, which is not installed: pip install 'modvisor[openagents]'"
        )
        raise ImportError(text, name="openagents") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
