"""The changes that can be asked of the mods of a network, whoever makes them.

On one machine the network makes them itself (`LocalOrders`). In a cluster the node that has the mod
makes them, whichever node is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import Any, Protocol

from ....ipc.event import EventResponse
from ...config import ModConfig, NetworkConfig
from .audiences import Audiences
from .loading import Loading
from .reconfigure import Changes, apply_changes


class Orders(Protocol):
    """Changes mods. A change that fails is a response; see `Operations` for what each takes and returns."""

    async def load(self, config: ModConfig) -> EventResponse: ...
    async def unload(self, mod: str, /, timeout: float | None, *, cascade: bool) -> EventResponse: ...
    async def reload(self, mod: str, config: dict[str, Any] | None, mod_path: str | None, /) -> EventResponse: ...
    async def restart(self, mod: str, /) -> EventResponse: ...
    async def swap(self, mod: str, config: ModConfig, /, *, alias: bool) -> EventResponse: ...
    async def set_audience(
        self, mod: str, /, *, everyone: bool = False, percent: Any = None, groups: Any = None, agents: Any = None
    ) -> EventResponse: ...
    async def promote(self, mod: str, /) -> EventResponse: ...
    async def rollback(self, mod: str, /) -> EventResponse: ...

    def reconfigure(self, old: NetworkConfig, new: NetworkConfig, /) -> Awaitable[Changes]:
        """Apply a changed network file; see `apply_changes`."""
        ...


class LocalOrders:
    """The changes of a network on one machine."""

    def __init__(self, loading: Loading, audiences: Audiences) -> None:
        self.load = loading.load
        self.unload = loading.unload
        self.reload = loading.commands.reload
        self.restart = loading.commands.restart
        self.swap = loading.commands.swap
        self.set_audience = audiences.set_audience
        self.promote = audiences.promote
        self.rollback = audiences.rollback
        self.reconfigure = partial(apply_changes, loading)
