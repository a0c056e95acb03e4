"""An agent's connection to a network: the distribution `modvisor-client`, under a name of modvisor.

    from modvisor.client import AgentClient

A name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import modvisor_client

if TYPE_CHECKING:
    from modvisor_client import __version__

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(modvisor_client, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
