"""The network's servers: agents over TCP, the operator over a unix socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.abc import TaskGroup

if TYPE_CHECKING:
    from ..network import AgentNetwork


class Servers:
    """Starts and stops what the network serves."""

    def __init__(self, network: AgentNetwork, tasks: TaskGroup) -> None:
        self._network = network
        self._tasks = tasks
        self.port: int | None = None

    async def start(self, *, admin: bool) -> None:
        """Bind and serve."""

    async def stop(self) -> None:
        """Serve no more."""
