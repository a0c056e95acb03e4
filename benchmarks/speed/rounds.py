"""The run: the floor, ours and the peers take turns, so that each round's ratios are of one and the same machine."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

from ..census import Census
from . import floor, leftovers
from .curves import Curve
from .others import PEERS, PeerFailed, ask
from .ours import events, growth, life, swarm
from .ours.serving import Scene, run
from .plan import Plan
from .record import Record
from .rows import FLOOR, OURS, ROWS, Row

T = TypeVar("T")

PARTS: dict[str, Callable[[Scene], Awaitable[dict[str, float]]]] = {
    "life": life.life,
    "recovery": life.recovery,
    "save": life.save,
    "memory": life.memory,
    "polled": events.polled,
    "unpolled": events.unpolled,
    "many": events.many,
    "cost": events.cost,
    "wide": events.wide,
    "path": events.path,
    "fan_out": events.fan_out,
    "blobs": events.blobs,
    "swarm": swarm.swarm,
}
BESIDE = {"polled": "events", "blobs": "blobs", "life": "life", "recovery": "recovery"}
"""Part to the part of the floor that is measured right before it."""

CURVES: dict[str, Callable[[Scene], Awaitable[Curve]]] = {
    "mods": growth.mods,
    "agents": growth.agents,
    "served": growth.served,
    "sizes": growth.sizes,
    "widths": growth.widths,
}
JUDGED_BY = "cpu_us"
"""The figure of a curve by which its growth is judged: wall time depends on which core wakes which."""


class Run:
    """One run, into ``record``; ``say`` hears of its progress."""

    def __init__(self, plan: Plan, rows: Iterable[Row], record: Record, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._parts = {row.part for row in rows}
        self._record = record
        self._say = say
        if "unpolled" in self._parts:
            self._parts.add("polled")  # the floor that both are compared with

    def go(self, peers: bool, curves: bool) -> None:
        for number in range(self._plan.rounds):
            self._say(f"round {number + 1} of {self._plan.rounds}")
            figures: dict[str, dict[str, float]] = {OURS: {}, FLOOR: {}}
            turns = [lambda figures=figures, number=number: self._ours(figures, number)]
            if peers:
                turns.append(lambda figures=figures, number=number: self._peers(figures, number))
            for turn in turns if number % 2 == 0 else reversed(turns):  # none is always the one that comes later
                turn()
            self._record.rounds.append(figures)
        for name, measure in CURVES.items():
            if name in self._parts or curves:
                self._curve(name, measure)

    def _ours(self, figures: dict[str, dict[str, float]], number: int) -> None:
        for name, measure in PARTS.items():
            if name not in self._parts or (name == "swarm" and number >= self._plan.many_rounds):
                continue
            if name in BESIDE:
                figures[FLOOR] |= floor.PARTS[BESIDE[name]](self._plan)
            figures[OURS] |= self._watched(name, measure)

    def _peers(self, figures: dict[str, dict[str, float]], number: int) -> None:
        for peer in PEERS:
            if peer.column in self._record.absent or (peer.is_slow and number >= self._plan.slow_rounds):
                continue
            if (why := peer.missing()) is not None:
                self._record.absent[peer.column] = why
                continue
            with tempfile.TemporaryDirectory(prefix="modvisor-peer-") as folder:
                try:
                    figures[peer.column] = ask(peer, self._plan, Path(folder))
                except PeerFailed as error:
                    self._record.absent[peer.column] = f"failed: {error}"

    def _curve(self, name: str, measure: Callable[[Scene], Awaitable[Curve]]) -> None:
        self._say(f"curve: {name}")
        curve = self._watched(name, measure)
        self._record.curves.append(curve)
        if any(row.part == name for row in ROWS):
            self._record.rounds[-1][OURS][f"growth_{name}"] = curve.growth(JUDGED_BY)
            if curve.note:
                self._record.notes.append(f"{curve.label}: {curve.note}")

    def _watched(self, name: str, measure: Callable[[Scene], Awaitable[T]]) -> T:
        """Measure; whatever is left behind is a problem."""
        with tempfile.TemporaryDirectory(prefix="modvisor-speed-", ignore_cleanup_errors=True) as home:
            storage, temporary = Path(home, "storage"), Path(home, "tmp")
            storage.mkdir()
            temporary.mkdir()
            with leftovers.marked() as running, leftovers.temporary_files_in(temporary):
                found, left = run(_counted(measure, Scene(self._plan, storage)))
                left += leftovers.processes(running) + leftovers.files(temporary, storage)
        self._record.problems += [f"{name} has left behind: {what}" for what in left]
        return found


async def _counted(measure: Callable[[Scene], Awaitable[T]], scene: Scene) -> tuple[T, list[str]]:
    before = Census.take()
    found = await measure(scene)
    return found, await leftovers.nothing_more_than(before)
