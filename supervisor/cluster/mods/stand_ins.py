"""The entries of the mods and copies that run on other nodes: made, told how they are, and exchanged."""

from __future__ import annotations

from collections.abc import Callable, Container

from ...config import ModConfig
from ...fleet import Asking, CopyGroup, ModElsewhere, ModRegistry, Unit, exchange_unit, parts_of, unit_named
from ...lifecycle import State
from .claims import NodeClaims
from .statuses import Statuses
from .wanted import Wanted


class StandIns:
    """Sees that this node has an entry for each mod of the network.

    Attributes:
        came: called when mods of the network have got an entry here.
    """

    def __init__(
        self, mods: ModRegistry, wanted: Wanted, claims: NodeClaims, statuses: Statuses, asking: Asking
    ) -> None:
        self._mods = mods
        self._wanted = wanted
        self._claims = claims
        self._statuses = statuses
        self._asking = asking
        self.came: Callable[[], None] = lambda: None

    def follow(self, busy: Container[str] = ()) -> None:
        """Have an entry for each mod of the network, and none for others.

        Args:
            busy: a command is about to bring or end these.
        """
        missing = [
            config
            for mod_id, config in self._wanted.configs.items()
            if self._mods.get(mod_id) is None and mod_id not in busy
        ]
        for config in missing:
            self._mods.put(self._stand_in(config) if not config.placement.has_copies else self._stand_ins(config))
        if missing:
            self.came()
        for mod in list(self._mods):
            if (wanted := self._wanted.configs.get(mod.mod_id)) is not None:
                if isinstance(mod, CopyGroup):
                    mod.config = wanted
            elif isinstance(mod, ModElsewhere | CopyGroup) and not mod.keepers:
                self._mods.discard(mod)
        self._mods.put_in_order(list(self._wanted.configs))
        if missing:
            self._mods.rebuild_routes()

    def _stand_ins(self, config: ModConfig) -> CopyGroup:
        return CopyGroup(config, [self._stand_in(each) for each in parts_of(config)])

    def _stand_in(self, config: ModConfig) -> ModElsewhere:
        mod = ModElsewhere(config, self._asking)
        self.tell(mod)
        return mod

    def told(self, mod_id: str) -> None:
        """Follow a change of a mod's status, or of who has it."""
        mod = unit_named(self._mods, mod_id)
        if isinstance(mod, ModElsewhere) and self.tell(mod):
            self._mods.changed()

    def tell(self, mod: ModElsewhere) -> bool:
        """Show at a stand-in how its mod is; returns whether that has changed."""
        status, held = self._statuses.known.get(mod.mod_id), self._claims.held.get(mod.mod_id)
        before = mod.node, mod.token, mod.state, mod.manifest, mod.last_error
        mod.node = self._claims.node_of(mod.mod_id)
        if status is not None:
            mod.manifest, mod.last_error, mod.loaded_at = status.manifest, status.error, status.loaded_at
        if not self._wanted.is_exclusive(mod.mod_id):
            mod.node, mod.state = (None, State.STARTING) if status is None else (status.node, status.state)
        elif mod.node is None or held is None:
            mod.state = State.STARTING if status is None else State.RESTARTING
        elif status is None or status.token < held.revision:  # the node that has it starts it
            mod.state, mod.token = State.RESTARTING if status is not None else State.STARTING, 0
        else:
            mod.state, mod.token = status.state, status.token
        return before != (mod.node, mod.token, mod.state, mod.manifest, mod.last_error)

    def send_away(self, mod: Unit, why: str | None = None, *, finishes: bool = False) -> ModElsewhere:
        """Put a stand-in in the place of a mod that leaves this node.

        Events that wait for it go on at the stand-in, and at once: newer ones of their senders come behind them.

        Args:
            why: it leaves; None: it is unloaded, and goes nowhere.
            finishes: a worker that serves handles what it has, also what waits.
        """
        stand_in = ModElsewhere(mod.config, self._asking)
        stand_in.manifest, stand_in.loaded_at = mod.manifest, mod.loaded_at
        stand_in.state = State.RESTARTING
        exchange_unit(self._mods, mod, stand_in)
        stand_in.let_others_first()
        for keeper in mod.keepers:
            if why is not None and (keeper.incarnation is None or not finishes):
                keeper.leave(why)
        return stand_in
