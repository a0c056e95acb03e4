"""Laws that hold for a whole network whatever happens: seen from its workers, its senders and the disk.

`check` checks what must hold at any moment, `check_rest` what must hold when nothing happens any
more, `check_start` what a start of the network must have brought.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import Any

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.supervisor.config import family_of
from modvisor.supervisor.fleet import Mod
from modvisor.supervisor.lifecycle.keeper import Keeper
from modvisor.supervisor.lifecycle.states import State
from tests.supervisor.fake_workers import Handling
from tests.supervisor.whole_world import LifeLauncher, LifeWorker, OnDisk, Sent, WholeWorld

GRACE = 8.0
"""Seconds past its deadline in which an event that its mod died of is still being buried."""

AT_REST = (State.READY, State.FAILED, State.QUARANTINED, State.STOPPED)


@dataclass(frozen=True)
class Loaded:
    """A mod before the network ended, and whose place in the file it has."""

    path: str
    from_file: bool
    place: str | None


class WholeLaws:
    """Watches a `WholeWorld` from its beginning.

    Attributes:
        owed: events that were on disk when the supervisor was killed.
        disk_was_full: some changes could not be written.
        gone: ids of mods that were unloaded or taken out of the file: events for them stay on disk.
    """

    def __init__(self, world: WholeWorld) -> None:
        self.world = world
        self.owed: set[str] = set()
        self.gone: set[str] = set()
        self.disk_was_full = False
        self.violations: list[str] = []
        self._attempts: dict[tuple[str, str], tuple[int, int]] = {}  # the newest, and in which run
        world.watch = self._watch

    def _watch(self, launcher: LifeLauncher) -> None:
        launcher.on_event = self._event  # pyright: ignore[reportAttributeAccessIssue]

    def broken(self, law: str) -> None:
        self.violations.append(f"{self.world.loop.time()}: {law}")

    # -- as it happens

    def _event(self, worker: LifeWorker, handling: Handling) -> None:
        n = handling.event["payload"]["n"]
        for other in self.world.launcher.living:
            same_mod = family_of(other.mod_id) == family_of(worker.mod_id)
            if other is not worker and same_mod and any(each.id == handling.id for each in other.handling.values()):
                self.broken(
                    f"event {n} is handled by {other.worker_id} {other.pid} and {worker.worker_id} {worker.pid}"
                )
        if not handling.nested:
            key, run = (handling.id, worker.mod_id), self.world.runs
            former, in_run = self._attempts.get(key, (0, run))
            if handling.attempt < former:
                self.broken(f"event {n}: attempt {handling.attempt} after {former} (run {in_run}, now {run})")
            self._attempts[key] = handling.attempt, run

    # -- at any moment

    def check(self) -> None:
        for command in self.world.commands:
            if command.done() and not command.cancelled() and (error := command.exception()) is not None:
                assert isinstance(error, ModvisorError), error
        for sent in self.world.sent:
            self._check_sent(sent)
        if self.world.runs_now:
            self._check_mods()
        assert not self.violations, self.violations

    def _check_sent(self, sent: Sent) -> None:
        if not sent.task.done():
            late = self.world.loop.time() - sent.deadline
            assert late <= GRACE, f"event {sent.n} was due {late} s ago and has no answer"
        elif (answer := sent.answer) is not None:
            assert answer.success or answer.error in set(Code), f"event {sent.n}: {answer}"
            if answer.success and isinstance(answer.data, list):
                assert answer.data[0] == sent.n, f"event {sent.n}: {answer}"

    def _check_mods(self) -> None:
        mods, parts = self.world.mods, self.world.network._parts
        names = Counter(name for mod in mods for name in {mod.mod_id, *mod.config.aliases})
        assert all(count == 1 for count in names.values()), f"several mods of one name: {names}"
        in_service = [mod.mod_id for mod in mods if mod.is_member and mod.state is not State.DRAINING]
        routed = [entry.mod_id for entry in parts.mods.router.arranged()]  # pyright: ignore[reportOptionalMemberAccess]
        assert routed == in_service, "routes are not what is loaded"
        for keeper in (keeper for mod in mods for keeper in mod.keepers):
            self._check_keeper(keeper)

    @staticmethod
    def _check_keeper(keeper: Keeper) -> None:
        if (fed := keeper.caller._in_flight) is not None:
            assert keeper.incarnation is not None, f"mod {keeper.mod_id} is {keeper.state} and fed events"
            assert fed is keeper.incarnation.in_flight, f"another incarnation of {keeper.mod_id} is fed events"
            assert keeper.state is State.READY, f"mod {keeper.mod_id} is {keeper.state} and fed events"
        tried = keeper.beside.incarnation
        if tried is not None and keeper.incarnation is not None and tried.pipe.closed is None:
            versions = tried.manifest, keeper.incarnation.manifest
            assert versions[0] == versions[1], f"mod {keeper.mod_id} tries suspects with another version: {versions}"

    # -- when nothing happens any more

    def check_rest(self) -> None:
        """Each mod serves or says why not, what is on disk is what is loaded, and no event is lost."""
        for command in self.world.commands:
            assert command.done(), command
        known: set[int] = set()
        for mod in self.world.mods:
            assert mod.state in AT_REST, f"mod {mod.mod_id} is {mod.state} for ever"
            assert mod.state is State.READY or mod.last_error, f"mod {mod.mod_id} is {mod.state} and says not why"
            assert not mod.lock.statistics().locked, f"mod {mod.mod_id} is locked for ever"
            for keeper in mod.keepers:
                self._check_keeper_at_rest(keeper)
                known |= _pids_of(keeper)
        running = {worker.pid: worker.worker_id for worker in self.world.launcher.living}
        assert running.keys() == known, f"processes {running}, and the mods have {known}"
        self._check_disk(self.world.on_disk())

    @staticmethod
    def _check_keeper_at_rest(keeper: Keeper) -> None:
        assert keeper.beside.incarnation is None, f"mod {keeper.mod_id} tries suspects for ever"
        if keeper.state is State.READY:
            assert keeper.incarnation is not None
            assert keeper.caller._in_flight is keeper.incarnation.in_flight, f"{keeper.mod_id} is ready and not fed"
            handled = [journey.event.payload for journey in keeper.incarnation.in_flight.handling.values()]
            assert not keeper.incarnation.in_flight.is_busy, f"mod {keeper.mod_id} handles {handled} for ever"
        caller = keeper.caller
        suspects = len(caller._trial), len(caller.beside.trial)
        books = caller._admitted, caller._granted, suspects, caller.depth, len(keeper.durable)
        assert books == (0, 0, (0, 0), 0, 0), f"an event of {keeper.mod_id} is lost in the books: {books}"

    @staticmethod
    def is_busy(keeper: Keeper) -> bool:
        if keeper.beside.incarnation is not None:
            return True
        return bool(keeper.caller.in_flight_count or keeper.caller.depth or keeper.state not in AT_REST)

    def _check_disk(self, disk: OnDisk) -> None:
        if self.disk_was_full:  # what could not be kept is logged, and missing
            return
        mods = self.world.mods
        entries = {entry.mod_id for entry in self.world.network.config.mods}
        kept = {mod.mod_id: mod.config.path for mod in mods if mod.config.spec is not None}
        found = {mod_id: path for mod_id, path in disk.mods.items() if mod_id in kept or mod_id not in entries}
        assert found == kept, f"the journal has the mods {disk.mods}, loaded are {kept}"
        keepers = {keeper.mod_id: keeper for mod in mods for keeper in mod.keepers}
        down = {name for name, keeper in keepers.items() if keeper.quarantined is not None}
        assert disk.quarantined & keepers.keys() == down, f"in quarantine on disk {disk.quarantined}, in memory {down}"
        for event_id, owner in disk.owners.items():
            keeper = keepers.get(owner)
            if keeper is None:
                assert owner.partition("#")[0] in self.gone, f"event {event_id} is kept for {owner}, which nobody is"
            else:
                assert keeper.state is not State.READY, f"event {event_id} is kept for {owner}, which is ready"
        twice = [letter for letter, count in Counter(disk.buried).items() if count > 1]
        assert not twice, f"buried twice: {twice}"
        lost = self.owed - self.world.ended - disk.pending.keys() - {event_id for _, event_id in disk.buried}
        assert not lost, f"accepted before the supervisor was killed, and lost: {lost}"

    # -- a start

    def before_end(self) -> dict[str, Loaded]:
        """Note what is loaded just before the network ends."""
        return {
            mod.mod_id: Loaded(mod.config.path, mod.config.from_file, _place(mod))
            for mod in self.world.mods
            if mod.is_member and (mod.config.spec is None or mod.mod_id in self.world.on_disk().mods)
        }

    def check_start(self, before: dict[str, Loaded]) -> None:
        """What was loaded is loaded again, and of the mods of the file those whose place no other one has."""
        now = {mod.mod_id: mod for mod in self.world.mods}
        entries = {entry.mod_id for entry in self.world.network.config.mods if entry.enabled}
        for mod_id, loaded in () if self.disk_was_full else before.items():
            if not loaded.from_file and loaded.place is None:
                assert mod_id in now, f"mod {mod_id} was loaded, and is not any more: {list(now)}"
        for entry in () if self.disk_was_full else entries:
            holders = [mod.mod_id for mod in now.values() if _place(mod) == entry]
            # A mod of the file may have the place of another one, while a third has its own.
            is_elsewhere = bool(holders) and entry in now and _place(now[entry]) is not None
            own = [entry] if entry in now and entry not in holders and not is_elsewhere else []
            serve = [*holders, *own]
            explicit = entry in now and now[entry].config.spec is not None
            assert len(serve) == 1 or explicit, f"for mod {entry} of the file there are {serve} of {list(now)}"
        for mod in now.values():
            assert mod.state not in (State.STARTING, State.DRAINING), f"{mod.mod_id} is {mod.state} after a start"


def _place(mod: Mod) -> str | None:
    return None if mod.config.instead_of is None else mod.config.instead_of.mod_id


def _pids_of(keeper: Keeper) -> set[int]:
    """The pids of the processes that a keeper has: the one that serves, and the one that rests."""
    resting: Any = keeper.probation.resting if keeper.probation is not None else None
    return {each.pid for each in (*keeper.incarnations, resting) if each is not None and not each.process.exited.done()}


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
