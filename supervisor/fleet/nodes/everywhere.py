"""What is seen of all nodes of a cluster together. A network on one machine has none."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from ....ipc.event import Event, EventResponse

SeenRow = tuple[int, dict[str, Any]]
"""The number of the look in which a row changed last, and the row."""


class Everywhere(Protocol):
    """Looks at all nodes of a cluster. `modvisor.supervisor.cluster.nodes.views` is it.

    ``node`` is the one node to look at; None: all of them, each named with what it says. A node that
    gives no answer is named with the reason: it is never left out.
    """

    node: str
    """The name of this node."""

    def named(self, key: str, node: str | None) -> tuple[str, str | None]:
        """Return the mod and the node that the id of a row names, such as ``search/b``; else what was given."""
        ...

    async def mods(self, node: str | None) -> dict[str, Any]:
        """Return the figures of each mod: ``mods`` with the ``node`` of each, and ``nodes``."""
        ...

    async def stats(self, node: str | None) -> dict[str, Any]:
        """Return everything that is counted and measured."""
        ...

    async def mod(self, mod: str, node: str | None) -> dict[str, Any]:
        """Return all that is known of a mod (by id or path) on the node that runs it, with the ``node``."""
        ...

    async def plan(self, mod: str, do: str) -> dict[str, Any]:
        """Return what a command on a mod would do where it runs, and on which nodes."""
        ...

    async def audit(self, limit: int, before: str | None, what: str | None, node: str | None) -> dict[str, Any]:
        """Return the newest ``records``, each with its ``node``, and ``next``, which goes on with older ones."""
        ...

    async def crashes(self, mod: str | None, node: str | None) -> dict[str, Any]:
        """Return the crash reports, oldest first, each with its ``node``."""
        ...

    async def log(self, mod: str, lines: int, node: str | None) -> list[tuple[str, str]]:
        """Return the last lines of a mod's log in the order of time, each after the name of its node."""
        ...

    def follow_log(self, mod: str, node: str | None) -> AbstractAsyncContextManager[asyncio.Queue[tuple[str, str]]]:
        """Follow the new lines of a mod's log, each after the name of its node."""
        ...

    def follow_events(
        self, queue: asyncio.Queue[tuple[Event, EventResponse]], pattern: str, node: str | None
    ) -> AbstractAsyncContextManager[None]:
        """Put the events that finish on the other nodes into a queue."""
        ...

    async def metrics(self, accept: str, node: str | None) -> tuple[bytes, str]:
        """Return the figures as Prometheus reads them, and their media type."""
        ...

    async def look(self, seq: int) -> None:
        """Bring the rows of the other nodes up to date. Rows that have changed get this number."""
        ...

    def rows(self, own: dict[str, SeenRow]) -> dict[str, SeenRow]:
        """Return the rows of all nodes, by the id of the mod, or by id and node if several nodes run it."""
        ...

    def network_row(self, own: dict[str, Any]) -> dict[str, Any]:
        """Return the whole network as one row."""
        ...

    async def overview(self) -> dict[str, Any]:
        """Return the nodes with their health, load, versions and mods, and how the servers are reached."""
        ...

    async def drain(self, node: str) -> EventResponse:
        """Have a node hand over its mods, so that it can be stopped."""
        ...
