"""An agent's connection to a network: the distribution `modvisor-client`, under a name of modvisor.

    from modvisor.client import AgentClient

A name is imported when it is first used. `modvisor.client.sync` is for programs without an event loop.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modvisor_client import AgentClient, Event, EventStream, ModvisorClientError, Response, errors, sync

__all__ = ["AgentClient", "Event", "EventStream", "ModvisorClientError", "Response", "errors", "sync"]

_MODULES = {"errors", "sync"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = import_module("modvisor_client")
    value = globals()[name] = import_module(f"modvisor_client.{name}") if name in _MODULES else getattr(found, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
