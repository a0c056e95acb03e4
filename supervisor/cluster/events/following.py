"""Sees events to their responses in a network of several nodes: an event follows its mod to the next node.

A mod that must leave its node refuses the events that wait for it as `mod_away`. Those that nobody has
begun with go on to the node that has the mod by now, as those of other nodes do (`asking`), until their
deadlines. They come before newer ones of their senders (`StandIns.send_away`). An event that was begun
goes nowhere: what becomes of it is what becomes of it when a worker dies. One that a drain did not finish
in time is refused as `not_running`, and stays so: newer ones may wait for the next node already.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ....ipc.errors import Code
from ...calls import Answer, Journey, Unanswered, Unbegun
from ...events import Gateway
from ...fleet import CopyGroup, Entry, Mod

MOST_MOVES = 8
"""Moves of a mod that one event follows. No key of the network file: a mod that moves more is tossed about."""


class FollowingGateway(Gateway):
    """Asks the node that has a mod by now about an event that waited for the mod here."""

    async def _ask_elsewhere(self, mod: Mod, journey: Journey, problem: Unbegun, entry: Entry[Mod] | None) -> Answer:
        """Ask the node that has the mod by now about an event that nobody has begun with."""
        first, moves = problem, 0
        while (unit := await self._moved_to(mod.mod_id, journey, problem)) is not None and moves < MOST_MOVES:
            moves += 1
            try:
                if entry is None or self.ways is None:
                    return await unit.ask(journey)
                return await self.ways.asked(replace(entry, target=unit), journey)
            except Unbegun as again:
                problem = again
            except Unanswered as last:
                if last.code != Code.MOD_AWAY:
                    raise
                raise Unanswered(f"{last}; before that: {first}", code=last.code, **last.details) from None
        raise problem

    async def _moved_to(self, mod_id: str, journey: Journey, problem: Unbegun) -> Mod | None:
        """Return what stands for the mod by now; None: still what refused the event, and it does not move in time."""
        if problem.code != Code.MOD_AWAY:
            return None
        unit = self._other_than(problem, mod_id, journey)
        if unit is not None or not problem.is_moving:
            return unit
        changed = asyncio.Event()
        self._mods.listeners.append(changed.set)
        try:
            async with asyncio.timeout_at(journey.deadline):
                while (unit := self._other_than(problem, mod_id, journey)) is None:
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return None
        finally:
            self._mods.listeners.remove(changed.set)
        return unit

    def _other_than(self, problem: Unbegun, mod_id: str, journey: Journey) -> Mod | None:
        mod = self._mods.get(mod_id)
        unit = mod.member_of(journey.event) if isinstance(mod, CopyGroup) else mod
        is_same = unit is not None and any(keeper.caller is problem.by for keeper in unit.keepers)
        return None if is_same else unit
