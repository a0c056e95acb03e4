"""Let floor, modvisor and peers take turns, so that ratios are of the same minute."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..census import Census
from . import floor, growth, leftovers, ours
from .asking import PEERS, Peer, PeerFailed, ask
from .plan import Plan
from .record import Record
from .rows import FLOOR, OURS, Row
from .serving import Scene, run
from .timing import Figures

T = TypeVar("T")


class Run:
    """One run. Its figures go into `record`; `say` is told of its progress."""

    def __init__(self, plan: Plan, rows: Iterable[Row], record: Record, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._parts = {row.part for row in rows}
        self._record = record
        self._say = say
        if "unpolled" in self._parts:
            self._parts.add("polled")  # the floor is measured with it, and both are compared with the floor

    def go(self, peers: Sequence[Peer] = PEERS) -> None:
        rounds = self._record.rounds
        for number in range(self._plan.rounds):
            self._say(f"round {number + 1} of {self._plan.rounds}")
            rounds.append(figures := {OURS: {}, FLOOR: {}})
            turns = (partial(self._ours, figures), partial(self._ask, figures, number, peers))
            for turn in turns if number % 2 == 0 else reversed(turns):  # neither always comes second
                turn()
        for key in self._chosen(growth.PARTS):
            self._say(key)
            for figures, value in zip(rounds, self._watched(key, growth.PARTS[key]), strict=True):
                figures[OURS][key] = value

    def _chosen(self, parts: Iterable[str]) -> list[str]:
        return [name for name in parts if name in self._parts]

    def _ours(self, figures: dict[str, Figures]) -> None:
        for name in self._chosen(ours.PARTS):
            if name in floor.BESIDE:
                figures[FLOOR] |= asyncio.run(floor.BESIDE[name](self._plan))
            figures[OURS] |= self._watched(name, ours.PARTS[name])

    def _ask(self, figures: dict[str, Figures], number: int, peers: Sequence[Peer]) -> None:
        absent = self._record.absent
        for peer in peers:
            if peer.column in absent or (peer.is_slow and number >= self._plan.slow_rounds):
                continue
            with tempfile.TemporaryDirectory(prefix="modvisor-peer-") as folder:
                try:
                    figures[peer.column] = ask(peer, self._plan, Path(folder))
                except PeerFailed as error:
                    absent[peer.column] = str(error)

    def _watched(self, name: str, part: Callable[[Scene], Awaitable[T]]) -> T:
        """Measure a part. What it leaves behind is a problem."""
        with tempfile.TemporaryDirectory(prefix="modvisor-speed-", ignore_cleanup_errors=True) as home:
            storage, temporary = Path(home, "storage"), Path(home, "tmp")
            storage.mkdir()
            temporary.mkdir()
            with leftovers.marked() as running, leftovers.temporary_files_in(temporary):
                found, left = run(_counted(part, Scene(self._plan, storage, self._record.notes)))
                left += leftovers.processes(running) + leftovers.files(temporary, storage)
        self._record.problems += [f"{name} has left behind: {what}" for what in left]
        return found


async def _counted(part: Callable[[Scene], Awaitable[T]], scene: Scene) -> tuple[T, list[str]]:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0):
        pass  # with its first stream, uvloop opens /dev/null, and keeps it
    before = Census.take()
    found = await part(scene)
    return found, await leftovers.nothing_more_than(before)
