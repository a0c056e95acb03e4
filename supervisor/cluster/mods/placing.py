"""Runs the mods on this node that are its own, and moves them: the start, a takeover, a hand-over.

`Placing` looks at what is wanted, who is there and who has which claim, and does what follows for
each mod, one thing at a time. It never runs a mod that runs once without its claim:

* A free mod is claimed by the node that placement chooses, and started: from the last good sources
  and the last checkpoint, if it has run before.
* A mod that another node should run is handed over: a stand-in takes its place here, so new events
  wait for the next node; the worker finishes what it has, leaves its state, and ends; then the claim is
  given to the next node in one step, which starts the mod.
* A mod whose claim is lost is ended at once.

What is said of a mod here holds for each copy of a mod with several (`Wanted.units`): each of them is
claimed, started and handed over by itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import anyio
from anyio.abc import TaskGroup

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ...config import ModConfig
from ...fleet import Claim, Loading, ModElsewhere, ModRegistry, Unit, exchange_unit, unit_named, units_of
from ...journal import Quarantine
from ...lifecycle import Keeper, StartFailed, State
from ...process import shielded
from ..nodes.members import told_each
from ..nodes.session import Session
from .claims import Held, NodeClaims
from .codes import Codes, refused
from .divisions import Divisions
from .duties import Duties
from .handing import Luggage, Runs, settle
from .stand_ins import StandIns
from .start_log import StartLog
from .statuses import Status, Statuses
from .wanted import Wanted

logger = logging.getLogger("modvisor.cluster")

PAUSE = 0.25
"""Seconds until a mod is tried again that the servers held up: one of them may lead by then."""


CUT_OFF, _ANOTHER = "this node was cut off from the cluster", "another node may run it"
"""Why a mod leaves this node, as the events that wait for it are told."""


class Placing:
    """Sees that this node runs its mods and no others.

    Args:
        settled: seconds until something that failed is tried again.

    Attributes:
        duties: what this node has to do about each mod.
        is_open: mods may be started here.
        listeners: called when something was done with a mod.
    """

    def __init__(
        self,
        mods: ModRegistry,
        loading: Loading,
        wanted: Wanted,
        session: Session,
        claims: NodeClaims,
        duties: Duties,
        statuses: Statuses,
        codes: Codes,
        stand_ins: StandIns,
        luggage: Luggage,
        divisions: Divisions,
        tasks: TaskGroup,
        settled: float,
    ) -> None:
        self._mods = mods
        self._loading = loading
        self._wanted = wanted
        self._session = session
        self._claims = claims
        self._statuses = statuses
        self.duties = duties
        self._codes = codes
        self._stand_ins = stand_ins
        self._luggage = luggage
        self._divisions = divisions
        self._tasks = tasks
        self._settled = settled
        self._log = StartLog()
        self._busy: set[str] = set()
        self._wake = anyio.Event()
        self._looked = anyio.Event()
        self.listeners: list[Callable[[], None]] = []
        self.is_open = True

    # -- what is there

    def look(self, *_: object) -> None:
        """Look soon at what is to be done."""
        self._wake.set()

    def own_statuses(self) -> dict[str, Status]:
        """Return how the mods are that run here."""
        found: dict[str, Status] = {}
        for mod in units_of(self._mods):
            if mod.keepers:
                held = self._claims.mine(mod.mod_id)
                token = 0 if held is None else held.revision
                if token or not self._wanted.is_exclusive(mod.mod_id):
                    found[mod.mod_id] = self._status_of(mod, token)
        return found

    def _status_of(self, mod: Unit, token: int) -> Status:
        code, known = self._codes.of(mod.mod_id), self._statuses.known.get(mod.mod_id)
        if code is None and known is not None and (known.token != token or mod.mod_id not in self._codes.refused):
            code = known.code  # it did not serve here yet: what ran last is what counts
        status = Status.of(mod, self._session.node, token, code, self._codes.notes.get(mod.mod_id))
        if known is not None and mod.state is State.STARTING:  # this node may die before it has looked at them
            status = replace(status, quarantines=known.quarantines)
        return status

    def is_busy(self, mod_id: str) -> bool:
        """Whether something is being done with a mod."""
        return mod_id in self._busy

    def reserve(self, mod_id: str) -> bool:
        """Leave a mod to a command; False while something else is being done with it."""
        if mod_id in self._busy:
            return False
        self._busy.add(mod_id)
        return True

    def free(self, mod_id: str) -> None:
        """Give a mod back after `reserve`: look after it again."""
        self._busy.discard(mod_id)
        self.look()

    def told(self, mod_id: str) -> None:
        """Follow a change of a mod's status, or of who has it."""
        self._stand_ins.told(mod_id)
        self.look()

    # -- the loop

    async def run(self) -> None:
        """Do what is to be done until cancelled."""
        while True:
            self._wake = anyio.Event()
            try:
                self.duties.note_sessions()
                self._look_at_all()
            except Exception:  # nor must what cannot be read of one mod
                logger.exception("what is to be done about the mods cannot be seen; this is tried again")
            # What is judged by time alone: how long a node is there, and that a session was never seen.
            with anyio.move_on_after(self._settled / 2):
                await self._wake.wait()

    def _look_at_all(self) -> None:
        self._stand_ins.follow(self._busy)
        to_start: list[str] = []
        for mod_id, duty in self.duties.of_all().items():
            if mod_id in self._busy:
                continue
            if self.is_open and self._codes.may_run_now(self._wanted.units[mod_id]):
                self._do(self._again, [mod_id])
                continue
            if duty.do in ("run", "claim") and self.is_open:
                to_start.append(mod_id)
            elif duty.do == "hand":
                self._do(self._hand_over, [mod_id], duty.to)
            elif duty.do == "split" and self.is_open:
                self._do(partial(self._divisions.split, self._bring_home), [mod_id])
            elif duty.do == "end":
                self._do(self._end, [mod_id])
        if to_start:
            self._do(self._start, to_start)
        self._looked.set()
        self._looked = anyio.Event()

    def _do(self, work: Callable[..., Awaitable[None]], mod_ids: list[str], *more: str) -> None:
        self._busy.update(mod_ids)
        self._tasks.start_soon(self._done_by, work, mod_ids, *more, name=f"place-{'-'.join(mod_ids)[:40]}")

    async def _done_by(self, work: Callable[..., Awaitable[None]], mod_ids: list[str], *more: str) -> None:
        try:
            await work(mod_ids, *more)
        except ModvisorError as error:
            logger.warning("mods %s: %s; this is tried again", ", ".join(mod_ids), error)
            await self._pause()
        except Exception:  # a mod that cannot be placed must not end the node
            logger.exception("mods %s were not placed; this is tried again", ", ".join(mod_ids))
            await self._pause()
        finally:
            self._busy.difference_update(mod_ids)
            self.look()
            told_each(self.listeners)

    async def _pause(self) -> None:
        with anyio.move_on_after(self._settled):
            await self._wake.wait()

    # -- starting

    async def _start(self, mod_ids: list[str]) -> None:
        """Claim mods and start those that this node has got. What the servers held up is tried again soon."""
        configs = [self._wanted.units[mod_id] for mod_id in mod_ids]
        if await self._divisions.note(configs):
            return
        claims: dict[str, Claim] = {}
        former, begun = {mod_id: self._claims.held.get(mod_id) for mod_id in mod_ids}, time.monotonic()
        async with anyio.create_task_group() as tasks:
            for mod_id in mod_ids:
                tasks.start_soon(self._claim, mod_id, claims)
        claimed = time.monotonic()
        ours = [config for config in configs if config.mod_id in claims and self.is_open]
        handed: dict[str, list[str]] = {}
        async with anyio.create_task_group() as tasks:
            for config in ours:
                if self._is_handed(config):
                    tasks.start_soon(self._luggage.take, config.mod_id, handed)
        for config in ours:
            self._keep_quarantined(config)
        came = [self._bring_home(config, claims[config.mod_id]) for config in ours]
        held_up = await self._start_all(came, claims)
        self._log.tried(mod_ids, held_up)
        here = [mod for mod in came if self._is_here(mod)]
        for mod in here:
            if mod.mod_id in handed and mod.state is State.READY:
                await self._luggage.unpacked(mod, handed[mod.mod_id])
            if mod.mod_id not in held_up:
                self._tell_of(mod, former[mod.mod_id], begun, claimed)
        if held_up:
            await self._end([mod.mod_id for mod in here if mod.mod_id in held_up])
        if held_up or len(claims) < len(mod_ids):
            for mod_id in claims.keys() - held_up:  # these need not wait for the others
                mod_ids.remove(mod_id)
                self.free(mod_id)
            await anyio.sleep(PAUSE)

    async def _start_all(self, came: list[Runs], claims: dict[str, Claim]) -> set[str]:
        """Start mods that have come here. Returns those that could not be, because the servers were away."""
        held_up: set[str] = set()
        brought: dict[str, Runs] = {}
        async with anyio.create_task_group() as tasks:
            for mod in came:
                tasks.start_soon(self._check, mod, brought, held_up)
        whole = [mod.config for mod in brought.values() if mod.config.replica is None and self._is_here(mod)]
        copies = [mod for mod in brought.values() if isinstance(mod, Keeper) and mod.config.replica is not None]
        go_on = {copy.mod_id for copy in copies if copy.kept.has_snapshot}
        async with anyio.create_task_group() as tasks:
            for copy in copies:
                if copy.kept.has_snapshot:  # what it requires is not looked for, so it need not wait for that
                    tasks.start_soon(self._start_copy, copy, held_up)
            if whole:
                restored = [each.mod_id for each in whole if not each.from_file]
                outcomes = await self._loading.load_all(whole, restored=restored)
                held_up.update(mod_id for mod_id, each in outcomes.items() if mod_id in claims and _is_held_up(each))
        async with anyio.create_task_group() as tasks:
            for copy in copies:
                if copy.state is State.STARTING:
                    tasks.start_soon(self._start_copy, copy, held_up)
        fresh = [copy.config for copy in copies if copy.mod_id not in go_on and copy.state is State.READY]
        for config in [*whole, *fresh]:
            if (why := await self._codes.came_second(config)) is not None:
                await self._take_back(config, claims[config.mod_id], why)
        return held_up

    async def _take_back(self, config: ModConfig, claim: Claim, why: str) -> None:
        """End a mod that should not have started here, and forget the version that it ran."""
        mod = unit_named(self._mods, config.mod_id)
        await self._end([config.mod_id])
        for keeper in () if mod is None else mod.keepers:
            await keeper.kept.forget_quietly(keeper.mod_id)
        self._refuse(self._bring_home(config, claim), why)

    def _keep_quarantined(self, config: ModConfig) -> None:
        """Have the workers of a mod stay in the quarantine that they were in where the mod ran last."""
        status = self._statuses.known.get(config.mod_id)
        if config.placement.is_exclusive and status is not None:
            kept = [Quarantine(name, config.path, why, time.time(), asked) for name, why, asked in status.quarantines]
            self._loading.commands.records.take_quarantines(config.mod_id, kept)

    def _tell_of(self, mod: Runs, held: Held | None, begun: float, claimed: float) -> None:
        """Log how long a mod of a node that was lost was away, step by step."""
        if held is not None and (ended := self._claims.ended(held)) is not None:
            self._log.taken_over(mod.mod_id, held.node, mod.state, ended, (begun, claimed, time.monotonic()))

    async def _start_copy(self, keeper: Keeper, held_up: set[str]) -> None:
        """Start a copy of a mod. One that does not start stays, with the reason."""
        records = self._loading.commands.records
        async with keeper.lock:
            if not self._is_here(keeper):
                return
            records.recall_crashes(keeper)
            if records.stay_quarantined(keeper) is not None:
                return
            try:
                await keeper.start(from_snapshot=keeper.kept.has_snapshot)
            except StartFailed as error:
                self._log.failed(keeper.mod_id, error)
                if error.code == Code.CLUSTER_DOWN:
                    held_up.add(keeper.mod_id)

    def _is_here(self, mod: Runs) -> bool:
        """Whether a mod that is about to start is still to run here: its claim may have been lost meanwhile."""
        return unit_named(self._mods, mod.mod_id) is mod

    async def _check(self, mod: Runs, brought: dict[str, Runs], held_up: set[str]) -> None:
        """See whether a mod may start here. If other nodes run other code, it has failed with the reason."""
        try:
            goes_on = await self._loading.commands.records.find_snapshots(mod)
        except StartFailed as error:
            self._log.failed(mod.mod_id, error)
            held_up.add(mod.mod_id)
            return
        why = await self._codes.refusal(mod.config, runs_snapshot=goes_on)
        if why is not None:
            self._refuse(mod, why)
        else:
            brought[mod.mod_id] = mod

    def _refuse(self, mod: Runs, why: str) -> None:
        config = mod.config
        if config.replica is not None and isinstance(mod, Keeper):
            self._log.failed(config.mod_id, why)
            mod.not_started(why)
        else:
            self._loading.commands.not_started(config, refused(config, why), restored=not config.from_file)

    async def _again(self, mod_ids: list[str]) -> None:
        """Start a mod that was refused, now that other nodes run what this one has."""
        for mod_id in mod_ids:
            if (await self._loading.commands.reload(mod_id)).success or mod_id not in self._wanted.configs:
                self._codes.accepted(mod_id)

    def _is_handed(self, config: ModConfig) -> bool:
        held = self._claims.mine(config.mod_id)
        return held is not None and held.is_handed

    async def _claim(self, mod_id: str, into: dict[str, Claim]) -> None:
        try:
            if (claim := await self._claims.claim(mod_id)) is not None:
                into[mod_id] = claim
        except ModvisorError as error:
            logger.warning("mod %s was not claimed: %s; this is tried again", mod_id, error)

    def _bring_home(self, config: ModConfig, claim: Claim) -> Runs:
        """Put a keeper in the place of a stand-in; events wait until it serves."""
        self._mods.tokens[config.mod_id] = claim.token
        stand_in = unit_named(self._mods, config.mod_id)
        mod = self._mods.make(config)
        if stand_in is None:
            self._mods.put(mod)
            return mod
        exchange_unit(self._mods, stand_in, mod)
        if (status := self._statuses.known.get(config.mod_id)) is not None:  # it has run before, here or elsewhere
            self._loading.commands.records.resumed.add(config.mod_id)
            if config.placement.is_exclusive:
                status.recall_restarts(mod)
        return mod

    # -- going

    async def _hand_over(self, mod_ids: list[str], to: str) -> None:
        """Let another node have a mod, without losing an event."""
        (mod_id,) = mod_ids
        mod, held = unit_named(self._mods, mod_id), self._claims.mine(mod_id)
        if mod is None or isinstance(mod, ModElsewhere) or held is None:
            return
        async with self.lock_of(mod):
            if unit_named(self._mods, mod_id) is not mod:
                return
            logger.info("mod %s goes to node %s", mod_id, to)
            stand_in = self._stand_ins.send_away(mod, f"it goes to node {to}", finishes=True)
            stand_in.leaving = mod.keepers
            await settle(mod)
            not_kept = self._luggage.ask_for(mod)
            await shielded(mod.unload(keep_state=True))
            stand_in.leaving = []
        await self._luggage.send(mod, not_kept)
        claim = Claim(mod_id, held.revision)
        info = self._session.nodes.get(to)
        if info is None:
            await self._claims.release(claim)
        else:
            await self._claims.hand_over(claim, to, info.session)

    def lock_of(self, mod: Runs) -> anyio.Lock:
        """Return the lock of a mod that runs here; the copies of one mod have one together."""
        group = None if mod.config.replica is None else self._mods.get(mod.config.name)
        return mod.lock if group is None else group.lock

    async def _end(self, mod_ids: list[str]) -> None:
        """End mods at once that are not this node's any more."""
        for mod_id in mod_ids:
            mod = unit_named(self._mods, mod_id)
            if mod is not None and not isinstance(mod, ModElsewhere):
                self._stand_ins.tell(self._stand_ins.send_away(mod, _ANOTHER))
                timeout = 0.0 if self._wanted.is_exclusive(mod_id) else None
                await shielded(mod.unload(timeout, leaves=_ANOTHER))
        self._mods.changed()

    async def end_copy(self, mod_id: str, timeout: float | None) -> None:
        """Unload a copy of a mod: what is kept of it goes with it."""
        keeper, held = unit_named(self._mods, mod_id), self._claims.mine(mod_id)
        if isinstance(keeper, Keeper):
            async with self.lock_of(keeper):
                stand_in = self._stand_ins.send_away(keeper)
                await shielded(keeper.unload(timeout, forget=True))
                stand_in.state = State.STOPPED
            await self._loading.commands.records.forget_if_gone(keeper)
        self._mods.tokens.pop(mod_id, None)
        if held is not None:
            await self._claims.release(Claim(mod_id, held.revision))

    def lose_all(self) -> list[Unit]:
        """Put a stand-in in the place of every mod that runs once; the caller ends the mods."""
        gone = [mod for mod in units_of(self._mods) if mod.keepers and self._wanted.is_exclusive(mod.mod_id)]
        for mod in gone:
            self._stand_ins.send_away(mod, CUT_OFF)
        return gone

    # -- the end

    async def drained(self) -> None:
        """Wait until this node has no mod that another node may run: none that still starts, none that a command holds."""
        self.look()
        await self._looked.wait()
        while self._busy or any(map(self.duties.is_to_go, self._wanted.units)):
            await self._looked.wait()


def _is_held_up(answer: EventResponse) -> bool:
    """Whether a mod did not start because the servers were away, which passes by itself, or did not for another mod's sake."""
    data = answer.data if isinstance(answer.data, dict) else {}
    return not answer.success and Code.CLUSTER_DOWN in (answer.error, data.get("reason"))
