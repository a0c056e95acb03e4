"""What this node has to do about each mod: run it, claim it, hand it over, end it, or nothing.

A mod whose node has died is claimed by the node that the draw names now: a takeover.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from ...config import ALL_NODES, ModConfig
from ...fleet import ModRegistry, parts_of, unit_named
from ..nodes.session import Session
from .claims import Held, NodeClaims
from .placement import Place, allowed, chosen, copies, ranked
from .wanted import Wanted


class Duty(NamedTuple):
    """What this node has to do about a mod.

    Attributes:
        do: ``run``, ``claim``, ``hand`` (to node ``to``), ``end``, ``split`` (what is kept of all copies), or ``""``: nothing.
    """

    do: str
    to: str = ""


NOTHING, RUN, CLAIM, END, SPLIT = Duty(""), Duty("run"), Duty("claim"), Duty("end"), Duty("split")


class Duties:
    """Compares what is wanted, who is there and who has which claim with what runs here.

    Args:
        settled: seconds that a node must have been there before mods are moved to it.

    Attributes:
        is_draining: this node takes no mod, and hands over those that it has.
        may_split: whether all nodes want as many copies; assigned before the first look.
    """

    def __init__(
        self,
        mods: ModRegistry,
        wanted: Wanted,
        session: Session,
        claims: NodeClaims,
        settled: float,
        labels: frozenset[str] = frozenset(),
    ) -> None:
        self._mods = mods
        self._wanted = wanted
        self._session = session
        self._claims = claims
        self._settled = settled
        self._labels = labels
        self._there_since: dict[str, float] = {}  # by session
        self._shared_out: dict[str, dict[int, str]] | None = None  # the copies of mods, while all are looked at
        self.is_draining = False
        self.may_split: Callable[[], bool] = lambda: True

    # -- who may run what

    def places(self) -> list[Place]:
        """Return the nodes that are there, as places for mods."""
        return [
            Place(info.node, frozenset(info.labels), not info.value.get("draining"))
            for info in self._session.nodes.values()
            if info.node != self._session.node
        ] + ([self._here()] if self._session.id is not None else [])

    def _here(self) -> Place:
        return Place(self._session.node, self._labels, not self.is_draining)

    def runners(self, mod_id: str) -> list[Held]:
        """Return the other nodes that may run a mod with a copy on every node; each node begins with another one."""
        nodes, here = self._session.nodes, self._session.node
        names = ranked(f"{mod_id} {here}", allowed(self._wanted.configs[mod_id].placement, self.places()))
        return [Held(mod_id, name, nodes[name].session, 0) for name in names if name in nodes and name != here]

    def shares(self, config: ModConfig) -> dict[int, str]:
        """Return the node that should run each copy of a mod."""
        units = {part: unit.mod_id for part, unit in enumerate(parts_of(config))}
        held = {part: node for part, unit in units.items() if (node := self._claims.node_of(unit)) is not None}
        return copies(config.mod_id, config.placement, self.places(), held)

    def target(self, unit: str) -> str | None:
        """Return the node that should run a mod or a copy; None if no node may."""
        config = self._wanted.units[unit]
        if config.replica is None:
            return chosen(unit, config.placement, self.places())
        known = {} if self._shared_out is None else self._shared_out
        if (shares := known.get(config.name)) is None:
            shares = known[config.name] = self.shares(self._wanted.configs[config.name])
        return shares.get(config.replica)

    def note_sessions(self) -> None:
        """Take note of how long each node is there."""
        now, alive = time.monotonic(), {info.session for info in self._session.nodes.values()}
        self._there_since = {session: self._there_since.get(session, now) for session in alive}

    # -- what is to be done

    def of_all(self) -> dict[str, Duty]:
        """Return what is to be done about every mod and copy."""
        self._shared_out = {}
        try:
            return {unit: self.of(unit) for unit in self._wanted.units}
        finally:
            self._shared_out = None

    def of(self, mod_id: str) -> Duty:
        """Return what this node has to do about a mod."""
        mod, here = unit_named(self._mods, mod_id), self._session.node
        runs = mod is not None and bool(mod.keepers)
        config = self._wanted.units[mod_id]
        placement = config.placement
        if placement.copies == ALL_NODES:
            should = bool(allowed(placement, [self._here()]))  # also while this node is cut off
            return NOTHING if should == runs else RUN if should else END
        held, target = self._claims.held.get(mod_id), self.target(mod_id)
        if not runs and self._wanted.is_uneven(config.name):
            is_free = held is None or self._claims.is_gone(held) or held.session == self._session.id
            is_ours = (
                config.replica in (0, None) and is_free and target == here and not self._wanted.is_going(config.name)
            )
            return SPLIT if is_ours and self.may_split() else NOTHING
        if held is None or self._claims.is_gone(held):
            if runs:
                return END
            return CLAIM if target == here and not self._wanted.is_going(config.name) else NOTHING
        if held.session != self._session.id:
            return END if runs else NOTHING
        if not runs:
            return NOTHING if config.replica is not None and self._wanted.is_going(config.name) else RUN
        if config.replica is not None and self._wanted.is_under_way(config.name):
            return NOTHING  # a copy that moves in the middle of a reload would come back as the previous version
        if target not in (None, here) and self._may_go_to(target):
            return Duty("hand", target)
        return NOTHING

    def is_to_go(self, unit: str) -> bool:
        """Whether a mod or copy that this node has belongs to another node, also if a command holds it here for now."""
        if not self._wanted.units[unit].placement.is_exclusive or self._claims.mine(unit) is None:
            return False
        return self.target(unit) not in (None, self._session.node)

    def _may_go_to(self, node: str) -> bool:
        """Whether a mod may move to a node now: it stays for long, or this node is being drained."""
        if self.is_draining:
            return True
        info = self._session.nodes.get(node)
        since = None if info is None else self._there_since.get(info.session)
        return since is not None and time.monotonic() - since >= self._settled
