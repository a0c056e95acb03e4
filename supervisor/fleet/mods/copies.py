"""A mod of which several nodes run copies: one entry in each node's registry, whose members are here or elsewhere.

The copies share the events as the workers of a mod on one node do. Each copy has a claim, a state and
restarts of its own; its id is that of the mod with its number, such as ``wiki#0``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from dataclasses import replace
from typing import Any

import anyio

from ....ipc.errors import Code
from ....ipc.event import Event, EventResponse
from ....ipc.manifest import Manifest
from ....ipc.partition import LEAST_LOADED, SOURCE, key_of, partition_of
from ...calls import Journey, ModCounters, added_up
from ...config import ModConfig
from ...lifecycle import Incarnation, Keeper, StartFailed, State
from ...sources import SourceFiles
from .elsewhere import ModElsewhere

Member = Keeper | ModElsewhere
"""One copy of a mod: it runs here or on another node."""

AWAY = 1 << 30
"""The load of a copy that does not serve: it comes last."""


def part_id(mod_id: str, part: int) -> str:
    """Return the id of a copy."""
    return f"{mod_id}#{part}"


def parts_of(config: ModConfig) -> list[ModConfig]:
    """Return the config of each copy of a mod."""
    return [part_of(config, part) for part in range(int(config.placement.copies))]


def part_of(config: ModConfig, part: int) -> ModConfig:
    """Return the config of one copy of a mod."""
    return replace(config, mod_id=part_id(config.mod_id, part), replica=part)


class CopyGroup:
    """The copies of one mod, in the place of the mod.

    Attributes:
        config: of the mod; each member has its own.
        members: one for each copy, in the order of their numbers.
        keepers: those of the members that run here.
        lock: held by whoever changes a copy here.
        audience, promoted, is_member, command: as those of a `Keeper`.
    """

    def __init__(self, config: ModConfig, members: list[Member]) -> None:
        self.config = config
        self.members = members
        self.keepers: list[Keeper] = [member for member in members if isinstance(member, Keeper)]
        self.lock = anyio.Lock()
        self.command: anyio.CancelScope | None = None
        self.audience = config.audience
        self.promoted = 0
        self.is_member = True

    def exchange(self, old: Member, new: Member) -> None:
        """Put a member in the place of another one, because the copy comes to run here or goes elsewhere."""
        self.members[self.members.index(old)] = new
        self.keepers = [member for member in self.members if isinstance(member, Keeper)]

    # -- as one mod

    @property
    def mod_id(self) -> str:
        return self.config.mod_id

    @property
    def loaded_at(self) -> float | None:
        return next((each.loaded_at for each in self.members if each.loaded_at is not None), None)

    @property
    def manifest(self) -> Manifest | None:
        return next((each.manifest for each in self._nearest() if each.manifest is not None), None)

    def _nearest(self) -> Iterable[Member]:
        """Return the members, those that run here first."""
        return sorted(self.members, key=lambda each: isinstance(each, ModElsewhere))

    @property
    def incarnation(self) -> Incarnation | None:
        """Return an incarnation that serves here; None if no copy has one here."""
        return next((keeper.incarnation for keeper in self.keepers if keeper.incarnation is not None), None)

    @property
    def state(self) -> State:
        """Return the state of the first copy that is not ready, else ready."""
        return next((each.state for each in self.members if each.state is not State.READY), State.READY)

    @property
    def last_error(self) -> str | None:
        return next((each.last_error for each in self.members if each.last_error is not None), None)

    @property
    def sources(self) -> SourceFiles | None:
        return next((keeper.sources for keeper in self.keepers), None)

    @property
    def files_read(self) -> tuple[str, ...]:
        return next((keeper.files_read for keeper in self.keepers if keeper.files_read), ())

    @property
    def counters(self) -> ModCounters:
        """Return the sums of the copies here; if there is none, of what this node has sent to the others."""
        return added_up(each.counters for each in self.keepers or self.members)

    @property
    def node(self) -> str | None:
        """Return the nodes that run the copies which do not run here."""
        nodes = {each.node for each in self.members if isinstance(each, ModElsewhere) and each.node is not None}
        return ", ".join(sorted(nodes)) or None

    @property
    def token(self) -> int:
        """Return a number that is another one whenever a copy has a new incarnation or a new holder."""
        return sum(_number_of(each) for each in self.members)

    # -- events

    def ask(self, journey: Journey) -> Awaitable[EventResponse | Event | None]:
        """Ask the copy that an event belongs to; see `Keeper.ask`."""
        return self.member_of(journey.event).ask(journey)

    def ask_again(self, journey: Journey) -> Awaitable[EventResponse | Event | None]:
        """Ask again about an event that was given up; see `Keeper.ask_again`."""
        return self.member_of(journey.event).ask_again(journey)

    def observe(self, event: dict[str, Any]) -> None:
        """Send a copy to the observers in the copy of the mod that an event belongs to."""
        self._member_for(event.get("source_id"), event.get("payload")).observe(event)

    def notify(self, event: dict[str, Any]) -> None:
        """Send a notification to every copy."""
        for member in self.members:
            member.notify(event)

    def member_of(self, event: Event) -> Member:
        """Return the copy that an event belongs to."""
        return self._member_for(event.source_id, event.payload)

    def _member_for(self, source_id: str | None, payload: Any) -> Member:
        partition_by = self.config.partition_by or SOURCE
        if partition_by == LEAST_LOADED:
            return min(self._nearest(), key=_load_of)
        return self.members[partition_of(key_of(partition_by, source_id, payload), len(self.members))]

    # -- life

    async def start(self, *, from_snapshot: bool = False) -> Manifest:
        """Refuse to start: each copy is claimed first, and started by itself."""
        raise StartFailed(f"the copies of mod {self.mod_id} are started one by one", code=Code.MOD_AWAY)

    async def unload(self, timeout: float | None = None, *, keep_state: bool = False, forget: bool = False) -> None:
        """End the copies that run here, all at once; see `Keeper.unload`."""
        async with anyio.create_task_group() as tasks:
            for keeper in self.keepers:
                tasks.start_soon(_unload, keeper, timeout, keep_state, forget)

    def close_log(self) -> None:
        for keeper in self.keepers:
            keeper.close_log()


async def _unload(keeper: Keeper, timeout: float | None, keep_state: bool, forget: bool) -> None:
    await keeper.unload(timeout, keep_state=keep_state, forget=forget)


def _number_of(member: Member) -> int:
    if isinstance(member, ModElsewhere):
        return member.token
    return 0 if member.incarnation is None else member.incarnation.number


def _load_of(member: Member) -> int:
    """Return how many events a copy has, as far as this node knows."""
    if isinstance(member, ModElsewhere):
        sent = member.counters
        under_way = sent.events_in - sent.answered - sent.passed - sent.failed
        return under_way if member.state is State.READY else AWAY
    return member.caller.in_flight_count + member.caller.depth if member.caller.away is None else AWAY
