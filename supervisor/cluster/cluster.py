"""A node of a cluster: joins it, runs its share of the mods, asks the others, and leaves.

`network` calls these in order: `join` (before anything of the network is read), `start` in the place
of the load of the file's mods, `leave` at the beginning of the end, and `close` at its very end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from anyio.abc import TaskGroup

from ...ipc import __version__
from ...ipc.errors import Code
from ...ipc.event import EventResponse
from ..config import JournalConfig, ModConfig, NetworkConfig
from ..events import Gateway
from ..fleet import (
    Audiences,
    Everywhere,
    Loading,
    ModElsewhere,
    ModRegistry,
    ModRows,
    Orders,
    Unit,
    unit_named,
    units_of,
)
from ..journal import FileStore, Journal
from ..lifecycle import COMING_BACK, State
from ..sources import SnapshotStore
from .agents.agents import ClusterAgents
from .agents.forgetting import ForgettingEverywhere
from .events.answering import Answering
from .events.asking import Holders, NodeAsking
from .events.traced import TracedAsking
from .gateway import gateway_of_node
from .kept.journal import ClusterJournal
from .kept.mod_files import ClusterModFiles
from .kept.snapshots import ClusterSnapshots
from .kept.sweeping import Sweep
from .link.embedded import with_embedded
from .link.link import Link
from .mods.audiences import SharedAudiences
from .mods.claims import Held, NodeClaims
from .mods.codes import Codes
from .mods.desired import Desired
from .mods.divisions import Divisions
from .mods.doing import Doing
from .mods.duties import Duties
from .mods.handing import Luggage
from .mods.network_file import NetworkFile, Reconfiguring, as_notes
from .mods.placing import CUT_OFF, Placing
from .mods.rolling import Rolling
from .mods.stand_ins import StandIns
from .mods.statuses import Statuses
from .mods.swapping import Swapping
from .mods.wanted import Wanted, units_of_config
from .moving.mark import check_not_moving
from .nodes.about import about, handed_over
from .nodes.looks import Looked, Looks
from .nodes.session import Session
from .nodes.stores import stores
from .nodes.views import Views

if TYPE_CHECKING:
    from ..tracing import Tracer

logger = logging.getLogger("modvisor.cluster")

_ON_THE_WAY = (State.STARTING, *COMING_BACK)


class ClusterParts(Protocol):
    """The parts of a network that a node of a cluster works on. `wiring` makes them."""

    journal: Journal
    mods: ModRegistry
    loading: Loading
    families: Audiences
    orders: Orders
    gateway: Gateway
    tracer: Tracer | None


class Cluster:
    """One node of a cluster.

    Attributes:
        link: the way to the servers and the other nodes.
        session: whether this node is a member, and who else is.
        claims: which node runs which mod.
        agents: the agents of the network, and the inboxes of those that are at home here.
        asking: asks mods on other nodes.
        placing: runs this node's share of the mods.
    """

    gateway = staticmethod(gateway_of_node)

    def __init__(self, config: NetworkConfig, tasks: TaskGroup) -> None:
        assert config.cluster is not None
        self.config = with_embedded(config)
        self._tasks = tasks
        self._wanted = Wanted(config.base_dir)
        self._settled = 2 * self.config.lease
        self.link = Link(self.config, self.config.network, self.config.node)
        self.session = Session(self.link, self.config, __version__)
        self.session.checks.append(lambda: check_not_moving(self.link))
        self.agents = ClusterAgents(self.link, self.session, keeps_inboxes=self.config.inboxes == "stream")
        self.claims: NodeClaims
        self.asking: NodeAsking
        self.placing: Placing
        self._loops = anyio.CancelScope()
        self._looks: Looks | None = None
        self._tokens: Mapping[str, int] | None = None
        self._journal: ClusterJournal | None = None
        self._snapshots: ClusterSnapshots | None = None

    def seen_from(self, network: Looked, mods: ModRegistry, rows: ModRows) -> Everywhere:
        """Return what looks at all nodes, and have this node answer the looks of others.

        Args:
            rows: the rows of the mods here; used by the other nodes alone.
        """
        link, session = self.link, self.session
        self._looks = Looks(network, link, link.subject, self.config.node, rows, self._drained)
        return Views(
            self._looks,
            link,
            link.subject,
            self.config.node,
            lambda: session.nodes,
            lambda: about(self.config, link, session.nodes.values(), mods, self._mixed()),
            lambda: stores(link),
            network,
            self.config.timeout,
        )

    def _mixed(self) -> list[dict[str, str]]:
        notes = [] if self._snapshots is None else self._snapshots.notes(self.config.node)
        return [*self.codes.mixed(), *notes, *as_notes(self.file.others())] if hasattr(self, "codes") else []

    async def _drained(self) -> EventResponse:
        before = [mod.mod_id for mod in units_of(self._mods) if mod.keepers and mod.config.placement.is_exclusive]
        await self.drain()
        return handed_over(self.config.node, before, [mod.mod_id for mod in units_of(self._mods) if mod.keepers])

    # -- what outlives this node

    def journal(self, file: Path, config: JournalConfig) -> ClusterJournal:
        """Return the journal of this node, which shares what must outlive it."""
        self._journal = ClusterJournal(file, config, self.link, self._token_of, self._wanted.unit_of)
        return self._journal

    def snapshots(self, folder: Path) -> SnapshotStore:
        """Return the snapshots of this node, after its journal was made."""
        assert self._journal is not None
        journal = self._journal
        self._snapshots = ClusterSnapshots(folder, self.link, journal.log, lambda: journal.checkpoints.files)
        return self._snapshots

    def mod_files(self, local: FileStore) -> FileStore:
        """Return what keeps the files of mods, after the journal was made."""
        assert self._journal is not None
        journal = self._journal
        return ClusterModFiles(self.link, journal.log, lambda: journal.checkpoints.files, local, journal.config)

    def _token_of(self, mod_id: str) -> int | None:
        name = self._wanted.unit_of(mod_id)
        if self._tokens is None or not self._wanted.is_exclusive(name) or self._wanted.has_copies(name):
            return None
        return self._tokens.get(name, 0)

    # -- joining

    async def join(self) -> None:
        """Connect and become a member.

        Raises:
            ModvisorError: why not, and what to do about it.
        """
        await self.link.open()
        await self.session.join()
        await self.agents.open()
        if self._journal is not None:
            await self._journal.join()
            await ForgettingEverywhere(self.link, self.session, self._journal).open()

    async def start(self, parts: ClusterParts) -> list[tuple[ModConfig, EventResponse]]:
        """Take part: run this node's share, and have a stand-in for every other mod.

        Returns:
            the outcome of each mod of the file, as far as it is known: here, or on the node that has it.
        """
        await self._open(parts)
        await self.file.join(parts.mods.file_entries())
        self._wire(parts)
        if len(self.session.nodes) < 2:  # the network starts: its file rules again
            await self.desired.forget_overrides()
        self._follow_records()
        self._tasks.start_soon(self._run, name="cluster")
        self.doing.look()  # a command may be under way whose node has died
        await self._until_settled(parts.mods, list(self._wanted.configs))
        return [(entry, self._outcome(parts.mods, entry)) for entry in parts.mods.file_entries().values()]

    async def _open(self, parts: ClusterParts) -> None:
        self._mods, self._tokens = parts.mods, parts.mods.tokens
        self._state = await self.link.bucket("state")
        self._files = await self.link.files()
        exclusive = self._wanted.is_exclusive
        self.claims = NodeClaims(await self.link.bucket("claims"), self.session, 1.5 * self.config.lease, exclusive)
        self.desired = Desired(await self.link.bucket("mods"), self.session.node)
        self.statuses = Statuses(self._state, lambda: self.placing.own_statuses())
        codes = {} if self._snapshots is None else self._snapshots.codes
        self.codes = Codes(
            self._state,
            self.link,
            self.session,
            parts.mods,
            self.statuses,
            codes.get,
            allow_mixed=self.config.allow_mixed,
        )
        self.file = NetworkFile(self._state, self.session, allow_mixed=self.config.allow_mixed)
        self.audiences = SharedAudiences(self._state, parts.mods, parts.families)
        for part in (self.audiences, self.claims, self.desired, self.statuses, self.codes):
            await part.open()

    def _wire(self, parts: ClusterParts) -> None:
        """Bind the parts of the network to those of the cluster."""
        holders = Holders(
            self._holder_of, lambda mod_id: self.placing.duties.runners(mod_id), self.claims.is_gone, self._config_of
        )
        tracer = parts.tracer
        self.asking = NodeAsking(self.link, holders) if tracer is None else TracedAsking(self.link, holders, tracer)
        self.answering = Answering(self.link, parts.mods, self.asking, parts.gateway.answers)
        assert self._journal is not None
        stand_ins = StandIns(parts.mods, self._wanted, self.claims, self.statuses, self.asking)
        self.placing = Placing(
            parts.mods, parts.loading, self._wanted, self.session, self.claims,
            Duties(parts.mods, self._wanted, self.session, self.claims, self._settled, frozenset(self.config.labels)),
            self.statuses, self.codes, stand_ins, Luggage(self._files, parts.journal),
            Divisions(
                parts.loading, self.desired, self._wanted, self.claims, self.statuses, stand_ins, self._journal.splitting
            ),
            self._tasks, self._settled,
        )  # fmt: skip
        self.placing.duties.may_split = lambda: not self.file.others()
        assert self._snapshots is not None
        rolling = Rolling(
            parts.mods, self.desired, self._wanted, self.claims, self.statuses, self.session, self.placing, self.codes,
            self._tasks, self._snapshots,
        )  # fmt: skip
        self.doing = Doing(
            parts.mods,
            parts.loading,
            self.desired,
            self._wanted,
            self.claims,
            self.session,
            self.placing,
            self._tasks,
            self.audiences,
            self.codes,
            Swapping(parts.loading, self.desired, self.claims, self._journal),
            rolling,
        )
        self.doing.apply_file = Reconfiguring(
            parts.loading,
            self.file,
            self.desired,
            self._wanted,
            self.placing,
            self._follow_records,
            lambda mod_ids: self._until_settled(parts.mods, mod_ids),
            self.doing.doers,
            lambda entry: self._outcome(parts.mods, entry),
        ).apply
        stand_ins.came = self.audiences.apply
        parts.mods.told_reverted = self.doing.reverted
        parts.orders = self.doing
        parts.loading.commands.rights.claims = self.claims
        parts.mods.lease_by(lambda config: self.session.leases if config.placement.is_exclusive else None)
        self._listen(parts.mods)

    def _holder_of(self, mod_id: str) -> Held | None:
        if not self._wanted.is_exclusive(mod_id):
            return Held(mod_id, "", "", 0)
        held = self.claims.held.get(mod_id)
        return None if held is None or self.claims.is_gone(held) else held

    def _config_of(self, mod_id: str) -> ModConfig | None:
        mod = unit_named(self._mods, mod_id)
        return None if mod is None else mod.config

    def _listen(self, mods: ModRegistry) -> None:
        mods.listeners += [self.statuses.look, self.codes.look, self._mods_changed]
        self.claims.listeners += [self.placing.told, self.doing.look, self.asking.moved]
        self.statuses.listeners += [self.placing.told, self.asking.moved, self.doing.told]
        self.codes.listeners += [self.placing.look]
        self.desired.listeners += [self._follow_records, self.doing.look]
        self.session.listeners.extend([self.placing.look, self.doing.look, self.desired.wake, self._nodes_changed])
        self.session.on_lost.append(self._lost)
        self.placing.listeners.append(self.doing.look)

    # -- running

    async def _run(self) -> None:
        with self._loops:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.placing.run, name="placing")
                tasks.start_soon(self.statuses.run, name="statuses")
                tasks.start_soon(self.codes.run, self.doing.config_of, name="codes")
                tasks.start_soon(self.answering.run, name="answering")
                tasks.start_soon(Sweep(self.link, self._files, self.session).run, name="sweep")
                if self._looks is not None:
                    tasks.start_soon(self._looks.run, name="looks")

    def _follow_records(self, *_: object) -> None:
        self._wanted.follow(self._mods.file_entries(), self.desired.records)
        self.placing.look()

    def _mods_changed(self) -> None:
        self.answering.look()

    def _nodes_changed(self) -> None:
        self.file.look()
        for mod in list(units_of(self._mods)):
            if isinstance(mod, ModElsewhere):
                self.placing.told(mod.mod_id)
                self.asking.moved(mod.mod_id)

    def _lost(self, reason: str) -> None:
        """End the mods that run once: the lease has ended, and another node may run them by now."""
        gone = self.placing.lose_all()
        if gone:
            names = ", ".join(mod.mod_id for mod in gone)
            logger.error("this node was cut off from the cluster (%s); it has ended %s", reason, names)
        for mod in gone:
            self._tasks.start_soon(self._end, mod, name=f"end-{mod.mod_id}")

    async def _end(self, mod: Unit) -> None:
        with anyio.CancelScope(shield=True):
            async with mod.lock:  # a start that is under way would bring it back
                await mod.unload(0.0, leaves=CUT_OFF)

    # -- the start of the network

    async def _until_settled(self, mods: ModRegistry, mod_ids: list[str]) -> None:
        """Wait until each of these mods serves somewhere or has failed, as long as one may take to start."""
        changed = asyncio.Event()

        def note(*_: object) -> None:
            changed.set()

        told: list[list[Callable[..., None]]] = [mods.listeners, self.placing.listeners, self.session.listeners]
        for listeners in told:
            listeners.append(note)
        patience = max(
            (mod.limits.start_timeout for mod_id in mod_ids if (mod := self._wanted.configs.get(mod_id))), default=0.0
        )
        try:
            async with asyncio.timeout(patience + self._settled):
                while any(self._is_on_the_way(mods, mod_id) for mod_id in mod_ids):
                    # That a session was never seen is judged by time alone.
                    with anyio.move_on_after(self.config.lease / 4):
                        await changed.wait()
                    changed.clear()
        except TimeoutError:
            late = [mod_id for mod_id in mod_ids if self._is_on_the_way(mods, mod_id)]
            logger.warning("these mods serve on no node yet: %s", ", ".join(late))
        finally:
            for listeners in told:
                listeners.remove(note)
        for mod_id in mod_ids:
            if (waits := self._waits(mods, mod_id)) is not None:
                logger.warning("%s; the network starts without it", waits)

    def _waits(self, mods: ModRegistry, mod_id: str) -> str | None:
        """Return which node a mod waits for, if no node that is there may run it."""
        mod = mods.get(mod_id)
        if mod is None or mod.keepers or self.doing.doers(mod_id):
            return None
        on = " or ".join(self._wanted.configs[mod_id].placement.on)
        return f"mod {mod_id} waits for a node that may run it ({f'placement.on: {on}' if on else 'placement'})"

    def _is_on_the_way(self, mods: ModRegistry, mod_id: str) -> bool:
        mod = mods.get(mod_id)
        if mod is None:
            return True
        units = [unit.mod_id for unit in units_of_config(self._wanted.configs[mod_id])]
        if any(self.placing.duties.of(unit).do == "run" for unit in units):
            return True  # here, though a copy on another node may serve already
        if not mod.keepers and not self.doing.doers(mod_id):
            return False  # no node that is there may run it
        return mod.state in _ON_THE_WAY or (bool(mod.keepers) and any(map(self.placing.is_busy, units)))

    def _outcome(self, mods: ModRegistry, entry: ModConfig) -> EventResponse:
        mod = mods.get(entry.mod_id)
        data = {"mod_id": entry.mod_id, "mod_path": entry.path}
        if entry.mod_id in self._wanted.configs and (waits := self._waits(mods, entry.mod_id)) is not None:
            return EventResponse(True, waits, data)
        if mod is None or mod.state is State.READY or (mod.state in _ON_THE_WAY and not mod.keepers):
            units = (self.claims.node_of(unit.mod_id) for unit in units_of_config(entry))
            nodes = ", ".join(sorted({node for node in units if node is not None}))
            return EventResponse(True, f"mod {entry.mod_id} is on node {nodes or None}", data)
        return EventResponse.failure(Code.START_FAILED, mod.last_error or f"mod {entry.mod_id} is {mod.state}", **data)

    # -- leaving

    async def drain(self) -> None:
        """Move every mod that runs once to other nodes, without losing an event, and take no more."""
        self.placing.duties.is_draining = True
        self.session.describe(draining=True, soon=True)
        self.placing.look()
        await self.placing.drained()

    async def leave(self) -> None:
        """Hand over what other nodes may run, and start nothing more."""
        if not hasattr(self, "placing"):
            return
        if self.session.id is not None and len(self.session.nodes) > 1:
            limits = [mod.config.limits for mod in self._mods if mod.keepers]
            with anyio.move_on_after(max((each.drain_timeout + each.unload_timeout for each in limits), default=0.0)):
                await self.drain()
        self.placing.is_open = False
        self._loops.cancel()

    async def close(self) -> None:
        """End the membership, and the connection."""
        for part in ("answering", "codes", "statuses", "audiences", "desired", "claims", "_snapshots"):
            if (opened := getattr(self, part, None)) is not None:
                await opened.close()
        await self.agents.close()
        if self._journal is not None:
            await self._journal.leave()
        await self.session.leave()
        await self.link.close()

    def at_node(self) -> dict[str, Any]:
        """Return what this node shows of the cluster."""
        return {"node": self.session.node, "session": self.session.id, "nodes": sorted(self.session.nodes)}
