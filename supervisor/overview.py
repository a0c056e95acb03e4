"""What a page shows of a running network, second by second: one row for each mod, and the network in one."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import anyio
import anyio.to_thread

from ..ipc import __version__
from ..ipc.address import AGENT
from ..ipc.errors import Code, ModvisorError
from ..ipc.event import EventResponse
from .agents import Agent, described_agent, described_channels, described_closely, described_groups, no_such_agent
from .audit import newest
from .config import family_of
from .fleet import EVERY, History, Mod, Plan, one_mod_stats
from .inspection import Inspection, Parts
from .limits import bytes_below

logger = logging.getLogger("modvisor.network")

_OF_JOURNAL = ("durable_events", "dead_letters", "file_bytes", "write_errors", "last_error")


class Overview(Inspection):
    """A network at a glance, read from memory."""

    def network_row(self) -> dict[str, Any]:
        """Return the network as one row: who it is, what it counts, what its own process uses."""
        view = self._view()
        stats = self._parts.journal.stats() if self._parts is not None else {}
        agents = self._parts.agents if self._parts is not None else None
        return {
            "name": self.config.name,
            "version": __version__,
            "uptime_seconds": round(self.uptime, 1),
            "is_running": self.is_running,
            "agents": view.agent_count,
            "channels": 0 if agents is None else len(agents.channels()),
            "events": asdict(self.counters),
            "supervisor": self.supervisor_figures(),
            "journal": {name: stats.get(name) for name in _OF_JOURNAL},
            "dead_letters": stats.get("dead_letters", 0),
            "output_lost": self._output_lost,
        }

    def whole_network_row(self) -> dict[str, Any]:
        """Return the row of the network; with a cluster, of all its nodes together."""
        row = self.network_row()
        return row if self.everywhere is None else self.everywhere.network_row(row)

    def look_at_mods(self, seq: int, seconds: float | None) -> Iterator[None]:
        """Bring the rows of all mods up to date, in steps; see `ModRows.look`. Raises `ModvisorError` (not_running)."""
        return self._running().rows.look(seq, seconds)

    def mod_rows(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Return each mod's row by its id, with the number of the look in which it changed last."""
        rows = self._parts.rows.rows if self._parts is not None else {}
        own = {mod_id: (row.seq, row.data) for mod_id, row in rows.items()}
        return own if self.everywhere is None else self.everywhere.rows(own)

    @property
    def history(self) -> History:
        """What the mods have used of late. Raises `ModvisorError` (not_running)."""
        return self._running().history

    # -- the ways of events

    def watched_ways(self, *, all_events: bool) -> AbstractContextManager[None]:
        """Record inside the block which mods events go through; see `Ways`. Raises `ModvisorError` (not_running)."""
        return self._running().ways.watched(all_events=all_events)

    def take_edges(self, seconds: float, events: int) -> list[list[Any]]:
        """Return the traffic between agents and mods since it was last taken; see `Ways.take_edges`."""
        return self._parts.ways.take_edges(seconds, events) if self._parts is not None else []

    def way_of(self, event_id: str) -> dict[str, Any] | None:
        """Return the way of an event through the mods; None if it was not recorded, or is forgotten.

        event (id, name, source, to, at, ms, success, error, by, delivered), steps (each: mod, began_at, ms, outcome,
        error), caused (ids), cause.
        """
        return self._running().ways.way(event_id)

    def answered_by(self, event_id: str) -> str | None:
        """Return the mod that answered an event, if that was recorded."""
        return self._parts.ways.by(event_id) if self._parts is not None else None

    # -- one mod

    async def describe_mod(self, mod: str) -> dict[str, Any]:
        """Return all that is known of a mod (by id or path): its figures, and what it was given.

        Besides the keys of its stats: config (secrets masked), config_schema, versions of its family, default (the
        version of all other sources), promotions, storage_bytes, checkpoint (version, at, bytes; None: there is none).

        Raises:
            ModvisorError: no_such_mod, conflict, not_running.
        """
        parts, found = self._running(), self._mod_named(mod)
        folders = [self.state_dir.storage_of(keeper.mod_id) for keeper in found.keepers]
        family = parts.mods.families.describe(family_of(found.mod_id))
        return {
            **one_mod_stats(found, parts).to_dict(),
            "config": self.redaction.data(found.config.config),
            "config_schema": found.config.config_schema,
            "versions": family.to_dict()["versions"],
            "default": family.default,
            "promotions": family.promotions,
            "storage_bytes": await anyio.to_thread.run_sync(bytes_below, folders),
            "checkpoint": await self._checkpoint(parts, found.keepers[0].mod_id if found.keepers else found.mod_id),
        }

    async def _checkpoint(self, parts: Parts, mod_id: str) -> dict[str, Any] | None:
        head = await parts.journal.checkpoint_head(mod_id)
        return None if head is None else dict(zip(("version", "at", "bytes"), head, strict=True))

    def runs_here(self, mod: str) -> bool:
        """Return whether this process runs a worker of a mod (by id or path). Raises `ModvisorError` as `describe_mod`."""
        return bool(self._mod_named(mod).keepers)

    def plan_for(self, mod: str, do: str) -> Plan:
        """Return what a command on a mod (by id or path) would do; see `Plans`.

        Raises:
            ModvisorError: no_such_mod, conflict, bad_input, not_running.
        """
        return self._running().plans.of(self._mod_named(mod), do)

    def _mod_named(self, mod: str) -> Mod:
        found = self._running().mods.named(mod)
        if isinstance(found, EventResponse):
            raise ModvisorError(str(found.message), code=found.error or Code.NO_SUCH_MOD)
        return found

    # -- its agents

    def list_agents(self, prefix: str = "", limit: int = 1000) -> tuple[list[dict[str, Any]], int]:
        """Return the agents whose ids begin so, at most so many, and how many there are."""
        agents = self._running().agents
        found = [agent for agent in agents if agent.agent_id.startswith(prefix)]
        return [described_agent(agent, agents) for agent in found[:limit]], len(found)

    def describe_agent(self, agent_id: str) -> dict[str, Any]:
        """Return all that is known of an agent but its secret. Raises `ModvisorError` (no_such_agent, not_running)."""
        return self.redaction.data(described_closely(self._agent(agent_id), self._running().agents))

    def _agent(self, agent_id: str) -> Agent:
        """Return a registered agent. Raises `ModvisorError`: not_running or no_such_agent."""
        agent = self._running().agents.get(agent_id.removeprefix(f"{AGENT}:"))
        if agent is None:
            raise no_such_agent(agent_id)
        return agent

    def list_channels(self) -> list[dict[str, Any]]:
        """Return each channel with its members."""
        return described_channels(self._running().agents)

    def list_groups(self) -> list[dict[str, Any]]:
        """Return each group with its rights and the number of its agents."""
        return described_groups(self._running().agents)

    # -- its audit

    async def audit_records(
        self, limit: int, before: int | None = None, what: str | None = None
    ) -> list[dict[str, Any]]:
        """Return records of the audit, the newest first.

        Args:
            before: only those with a smaller number.
            what: only those with this name, or below it: ``mod``, ``token.create``.

        Raises:
            ModvisorError: the files cannot be read.
        """

        def wanted(each: dict[str, Any]) -> bool:
            name, number = str(each.get("what")), each.get("n")
            is_before = before is None or (type(number) is int and number < before)
            return is_before and (what is None or name == what or name.startswith(f"{what}."))

        folder = self.state_dir.root / "audit"
        try:
            found = await anyio.to_thread.run_sync(newest, folder, wanted, limit)
        except OSError as error:
            raise ModvisorError(f"the audit cannot be read: {error}", code=Code.INTERNAL) from None
        return [{key: value for key, value in each.items() if key not in ("mac", "prev")} for each in reversed(found)]

    async def _keep_stats(self, parts: Parts) -> None:
        """Keep the network's figures now and then, for whoever looks after its end."""
        while (interval := self.config.journal.stats_every) is not None:
            await anyio.sleep(interval)
            self._keep_stats_now(parts)

    def _keep_stats_now(self, parts: Parts) -> None:
        try:
            parts.journal.keep_stats(self.get_network_stats())
        except Exception:  # figures for people must not end the network
            logger.exception("the network's figures could not be kept")

    async def _keep_history(self, parts: Parts) -> None:
        """Take a point of each mod every few seconds."""
        while True:
            parts.history.take(parts.rows.used())
            await anyio.sleep(EVERY)
