"""A mod with several workers: one keeper for each, and the rule which worker an event is for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio

from ....ipc.errors import Code
from ....ipc.event import Event, EventResponse
from ....ipc.manifest import Manifest
from ....ipc.partition import LEAST_LOADED, SOURCE, key_of, partition_of
from ...calls import Journey, ModCounters, Unanswered, added_up
from ...config import ModConfig
from ...lifecycle import Incarnation, Keeper, StartFailed, State
from ...process import shielded
from ...sources import SourceFiles

if TYPE_CHECKING:  # a network on one machine never imports them
    from .copies import CopyGroup
    from .elsewhere import ModElsewhere


class WorkerGroup:
    """The workers of one mod, each with a state, storage and restarts of its own.

    Commands on the group wait for one another at `lock`, which the caller holds.

    Attributes:
        keepers: one for each worker, in the order of their indices.
        previous_config: the config before the last reload, to revert to.
        audience, promoted: as those of a `Keeper`.
        is_member: all workers have served, or the mod is part of the network although they did not.
    """

    def __init__(self, config: ModConfig, keepers: list[Keeper]) -> None:
        self.config = self.previous_config = config
        self.keepers = keepers
        self.lock = anyio.Lock()
        self.command: anyio.CancelScope | None = None
        self.audience = config.audience
        self.promoted = 0
        self.is_member = False
        self._gate = _Gate()

    # -- as one mod

    @property
    def mod_id(self) -> str:
        return self.config.mod_id

    @property
    def loaded_at(self) -> float | None:
        return self.keepers[0].loaded_at

    @property
    def manifest(self) -> Manifest | None:
        return next((worker.manifest for worker in self.keepers if worker.manifest is not None), None)

    @property
    def incarnation(self) -> Incarnation | None:
        """Return an incarnation that serves; None if no worker has one."""
        return next((worker.incarnation for worker in self.keepers if worker.incarnation is not None), None)

    @property
    def state(self) -> State:
        """Return the state of the first worker that is not ready, else ready."""
        return next((worker.state for worker in self.keepers if worker.state is not State.READY), State.READY)

    @property
    def last_error(self) -> str | None:
        return next((worker.last_error for worker in self.keepers if worker.last_error is not None), None)

    @property
    def sources(self) -> SourceFiles | None:
        return self.keepers[0].sources

    @property
    def files_read(self) -> tuple[str, ...]:
        return next((worker.files_read for worker in self.keepers if worker.files_read), ())

    @property
    def counters(self) -> ModCounters:
        """Return the sums of the counters of all workers."""
        return added_up(worker.counters for worker in self.keepers)

    # -- events

    async def ask(self, journey: Journey) -> EventResponse | Event | None:
        """Ask the worker that an event belongs to; see `Keeper.ask`."""
        journey.own()
        await self._gate.passed(journey, self)
        return await self.keeper_of(journey.event).ask(journey)

    async def ask_again(self, journey: Journey) -> EventResponse | Event | None:
        """Ask again about an event that was given up; see `Keeper.ask_again`."""
        await self._gate.passed(journey, self)
        return await self.keeper_of(journey.event).ask_again(journey)

    def observe(self, event: dict[str, Any]) -> None:
        """Queue a copy for the observers in the worker that an event belongs to."""
        self._keeper_for(event.get("source_id"), event.get("payload")).observe(event)

    def notify(self, event: dict[str, Any]) -> None:
        """Queue a notification for every worker."""
        for worker in self.keepers:
            worker.notify(event)

    def keeper_of(self, event: Event) -> Keeper:
        """Return the worker that an event belongs to."""
        return self._keeper_for(event.source_id, event.payload)

    def _keeper_for(self, source_id: str | None, payload: Any) -> Keeper:
        if self.config.partition_by == LEAST_LOADED:
            return min(self.keepers, key=_load_of)
        partition_by = self.config.partition_by or SOURCE
        return self.keepers[partition_of(key_of(partition_by, source_id, payload), len(self.keepers))]

    # -- commands

    async def start(self, *, from_snapshot: bool = False, quarantined: bool = False) -> Manifest:
        """Start every worker, all at once.

        Args:
            quarantined: start the workers in quarantine too.

        Raises:
            StartFailed: a worker failed to start; the others are ended again.
        """
        down = [
            worker
            for worker in self.keepers
            if worker.incarnation is None and (quarantined or worker.quarantined is None)
        ]
        outcomes = await asyncio.gather(
            *(worker.start(from_snapshot=from_snapshot) for worker in down), return_exceptions=True
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            await shielded(self._end_started())
            raise next((failure for failure in failures if isinstance(failure, StartFailed)), failures[0])
        assert self.manifest is not None
        return self.manifest

    async def _end_started(self) -> None:
        await asyncio.gather(*(worker.unload() for worker in self.keepers if worker.incarnation is not None))

    async def unload(
        self, timeout: float | None = None, *, keep_state: bool = False, forget: bool = False, leaves: str = ""
    ) -> None:
        """End every worker, all at once; see `Keeper.unload`."""
        how = {"keep_state": keep_state, "forget": forget}
        await asyncio.gather(*(worker.unload(timeout, **how, leaves=leaves) for worker in self.keepers))

    def close_log(self) -> None:
        for worker in self.keepers:
            worker.close_log()

    # -- another number of workers

    async def settle(self, timeout: float) -> None:
        """Let new events wait until those in flight have finished; raises TimeoutError.

        Call `reopen` afterwards, even if this raises.
        """
        self._gate.close(self.config.limits.queue)
        async with asyncio.timeout(timeout):
            while any(_is_busy(worker) for worker in self.keepers):  # noqa: ASYNC110 - several callers and queues
                await asyncio.sleep(0.001)

    def reopen(self) -> int:
        """Let events flow again. Returns how many have waited."""
        return self._gate.open()

    def become(self, config: ModConfig, keepers: list[Keeper]) -> list[Keeper]:
        """Take other workers under ``config``. Returns the old ones, which the caller ends."""
        old, self.keepers = self.keepers, keepers
        self.adopt(config)
        return old

    def adopt(self, config: ModConfig) -> None:
        """Be the mod of ``config`` from now on. Its workers are in place already."""
        self.previous_config = replace(self.config, audience=self.audience)
        if config.mod_id != self.mod_id:
            self.audience = config.audience
        self.config = config

    def go_back(self) -> None:
        """Take the config from before the last reload again. May be called twice."""
        if self.previous_config.mod_id != self.mod_id:
            self.audience = self.previous_config.audience
        self.config = self.previous_config


Mod: TypeAlias = "Keeper | WorkerGroup | ModElsewhere | CopyGroup"
"""One mod of a network: with one worker here, with several, on another node, or with copies on several nodes."""


def pids_of(mod: Mod) -> dict[str, Any]:
    """Return ``pid``, and ``pids`` of a mod with several workers, in their order.

    A pid is None while there is no process; ``pid`` is None if there are several workers.
    """
    pids = [worker.incarnation.pid if worker.incarnation is not None else None for worker in mod.keepers]
    if not pids:  # it runs on another node
        return {"pid": None}
    return {"pid": pids[0]} if isinstance(mod, Keeper) else {"pid": None, "pids": pids}


class _Gate:
    """Lets events wait, in order, while the workers change. An open gate costs nothing."""

    def __init__(self) -> None:
        self._opened: asyncio.Event | None = None
        self._waiting = 0
        self._room = 0

    def close(self, room: int) -> None:
        """Let at most ``room`` events wait from now on."""
        self._opened, self._room = asyncio.Event(), room

    def open(self) -> int:
        """Let the events go on. Returns how many have waited."""
        waited = self._waiting
        if self._opened is not None:
            self._opened.set()
            self._opened = None
        return waited

    async def passed(self, journey: Journey, group: WorkerGroup) -> None:
        """Wait until the gate is open.

        Descendants of events in flight pass a closed gate, because those events wait for them.

        Raises:
            Unanswered: too many events wait, or the deadline has come.
        """
        if self._opened is None or any(worker.caller.is_exempt(journey) for worker in group.keepers):
            return
        if self._waiting >= self._room:
            text = f"mod {group.mod_id} is overloaded: {self._waiting} events are waiting"
            raise Unanswered(text, code=Code.OVERLOADED, waiting=self._waiting)
        self._waiting += 1
        try:
            async with asyncio.timeout_at(journey.deadline):
                await self._opened.wait()
        except TimeoutError:
            text = f"mod {group.mod_id}: the event timed out waiting for a reload to finish"
            raise Unanswered(text, code=Code.TIMEOUT) from None
        finally:
            self._waiting -= 1


def _load_of(worker: Keeper) -> int:
    """Return how many events a worker has. A worker that is away comes last."""
    caller = worker.caller
    return caller.in_flight_count + caller.depth if caller.away is None else 1 << 30


def _is_busy(worker: Keeper) -> bool:
    return bool(worker.caller.in_flight_count or worker.caller.depth or len(worker.durable) or len(worker.copies))


def configs_of(config: ModConfig) -> list[ModConfig]:
    """Return the config of each worker.

    Each has an id of its own, under which it keeps its state."""
    return [
        replace(config, mod_id=f"{config.mod_id}#{index}", workers=None, replica=index)
        for index in range(config.workers or 0)
    ]
