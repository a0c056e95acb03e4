"""Let floor, modvisor and peers take turns, so that ratios are of the same minute."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from ..census import Census
from . import cost_round, floor, growth, leftovers, ours
from .asking import PEERS, PeerFailed, ask
from .ours import Figures, Scene
from .plan import Plan
from .record import Record
from .rows import FLOOR, OURS, Row

Part = Callable[[Scene], Awaitable[Figures]]


class Run:
    """One run. Its figures go into `record`; `say` is told of its progress."""

    def __init__(self, plan: Plan, rows: Iterable[Row], record: Record, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._parts = {row.part for row in rows}
        self._record = record
        self._say = say
        if "unpolled" in self._parts:
            self._parts.add("polled")  # the floor is measured with it, and both are compared with the floor

    def go(self, peers: bool) -> None:
        for number in range(self._plan.rounds):
            self._say(f"round {number + 1} of {self._plan.rounds}")
            figures: dict[str, Figures] = {OURS: {}, FLOOR: {}}
            self._record.rounds.append(figures)
            turns = [self._ours, self._peers] if peers else [self._ours]
            for turn in turns if number % 2 == 0 else reversed(turns):  # neither always comes second
                turn(figures, number)
        for name in self._chosen(growth.PARTS):
            self._say(f"growth: {name}")
            self._record.rounds[-1][OURS] |= self._watched(name, growth.PARTS[name])

    def _chosen(self, parts: Iterable[str]) -> list[str]:
        return [name for name in parts if name in self._parts]

    def _ours(self, figures: dict[str, Figures], number: int) -> None:
        for name in self._chosen(ours.PARTS):
            if name == "swarm" and number >= self._plan.many_rounds:
                continue
            if name in floor.BESIDE:
                figures[FLOOR] |= asyncio.run(floor.BESIDE[name](self._plan))
            figures[OURS] |= self._watched(name, ours.PARTS[name])

    def _peers(self, figures: dict[str, Figures], number: int) -> None:
        absent = self._record.absent
        for peer in PEERS:
            if peer.column in absent or (peer.is_slow and number >= self._plan.slow_rounds):
                continue
            with tempfile.TemporaryDirectory(prefix="modvisor-peer-") as folder:
                try:
                    figures[peer.column] = ask(peer, self._plan, Path(folder))
                except PeerFailed as error:
                    absent[peer.column] = str(error)

    def _watched(self, name: str, part: Part) -> Figures:
        """Measure a part. What it leaves behind is a problem."""
        with tempfile.TemporaryDirectory(prefix="modvisor-speed-", ignore_cleanup_errors=True) as home:
            storage, temporary = Path(home, "storage"), Path(home, "tmp")
            storage.mkdir()
            temporary.mkdir()
            with leftovers.marked() as running, leftovers.temporary_files_in(temporary):
                found, left = cost_round.run(_counted(part, Scene(self._plan, storage, self._record.notes)))
                left += leftovers.processes(running) + leftovers.files(temporary, storage)
        self._record.problems += [f"{name} has left behind: {what}" for what in left]
        return found


async def _counted(part: Part, scene: Scene) -> tuple[Figures, list[str]]:
    await leftovers.open_first_stream()
    before = Census.take()
    found = await part(scene)
    return found, await leftovers.nothing_more_than(before)
