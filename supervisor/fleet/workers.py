"""A mod with several workers: one keeper for each, and which of them an event is for."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import Any

import anyio

from ...ipc.errors import Code
from ...ipc.event import Event, EventResponse
from ...ipc.manifest import Manifest
from ...ipc.partition import LEAST_LOADED, key_of, partition_of
from ..calls import Journey, LatencyHistogram, ModCounters, Unanswered
from ..config import ModConfig
from ..lifecycle import Incarnation, Keeper, StartFailed, State
from ..process import shielded
from ..sources import SourceFiles


class WorkerGroup:
    """The workers of one mod, each with state, storage and restarts of its own. To its network they are one mod.

    Commands on them are serialised by `lock`, which the caller holds.

    Attributes:
        keepers: one for each worker, in the order of their indices.
        former_config: of before the last reload, for the way back.
        audience, promoted: as of a `Keeper`; ``is_member``: all have served, or it is part of the network all the same.
    """

    def __init__(self, config: ModConfig, keepers: list[Keeper]) -> None:
        self.config = self.former_config = config
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
    def loaded_at(self) -> float:
        return self.keepers[0].loaded_at

    @property
    def manifest(self) -> Manifest | None:
        return next((keeper.manifest for keeper in self.keepers if keeper.manifest is not None), None)

    @property
    def incarnation(self) -> Incarnation | None:
        """One that serves; None if none does."""
        return next((keeper.incarnation for keeper in self.keepers if keeper.incarnation is not None), None)

    @property
    def state(self) -> State:
        """That of the first worker that is not ready."""
        return next((keeper.state for keeper in self.keepers if keeper.state is not State.READY), State.READY)

    @property
    def last_error(self) -> str | None:
        return next((keeper.last_error for keeper in self.keepers if keeper.last_error is not None), None)

    @property
    def sources(self) -> SourceFiles | None:
        return self.keepers[0].sources

    @property
    def files_read(self) -> tuple[str, ...]:
        return next((keeper.files_read for keeper in self.keepers if keeper.files_read), ())

    @property
    def counters(self) -> ModCounters:
        """The sum of all workers'."""
        total = ModCounters()
        for counters in (keeper.counters for keeper in self.keepers):
            for field in fields(ModCounters):
                value = getattr(counters, field.name)
                if isinstance(value, LatencyHistogram):
                    total.latency.merge(value)
                else:
                    setattr(total, field.name, getattr(total, field.name) + value)
        return total

    # -- events

    async def ask(self, journey: Journey) -> EventResponse | Event | None:
        """Ask the worker that the event belongs to; see `Keeper.ask`."""
        journey.own()
        await self._gate.passed(journey, self)
        return await self.keeper_of(journey.event).ask(journey)

    async def ask_again(self, journey: Journey) -> EventResponse | Event | None:
        """Ask about an event that was given up before; see `Keeper.ask_again`."""
        await self._gate.passed(journey, self)
        return await self.keeper_of(journey.event).ask_again(journey)

    def observe(self, event: dict[str, Any]) -> None:
        """Queue a copy for the observers of the worker that the event belongs to."""
        self._keeper_for(event.get("source_id"), event.get("payload")).observe(event)

    def notify(self, event: dict[str, Any]) -> None:
        """Queue a notification for every worker."""
        for keeper in self.keepers:
            keeper.notify(event)

    def keeper_of(self, event: Event) -> Keeper:
        """The worker that an event belongs to."""
        return self._keeper_for(event.source_id, event.payload)

    def _keeper_for(self, source_id: str | None, payload: Any) -> Keeper:
        if self.config.partition_by == LEAST_LOADED:
            return min(self.keepers, key=_load_of)
        return self.keepers[partition_of(key_of(self.config.partition_by, source_id, payload), len(self.keepers))]

    # -- commands

    async def start(self, *, from_snapshot: bool = False, quarantined: bool = False) -> Manifest:
        """Start every worker, all at once. Raises `StartFailed`; none is left then.

        Args:
            quarantined: those in quarantine as well.
        """
        down = [
            keeper
            for keeper in self.keepers
            if keeper.incarnation is None and (quarantined or keeper.quarantined is None)
        ]
        outcomes = await asyncio.gather(
            *(keeper.start(from_snapshot=from_snapshot) for keeper in down), return_exceptions=True
        )
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            await shielded(self._end_started())
            raise next((failure for failure in failures if isinstance(failure, StartFailed)), failures[0])
        assert self.manifest is not None
        return self.manifest

    async def _end_started(self) -> None:
        await asyncio.gather(*(keeper.unload() for keeper in self.keepers if keeper.incarnation is not None))

    async def unload(self, timeout: float | None = None, *, keep_state: bool = False, forget: bool = False) -> None:
        """End every worker, all at once; see `Keeper.unload`."""
        await asyncio.gather(*(keeper.unload(timeout, keep_state=keep_state, forget=forget) for keeper in self.keepers))

    def close_log(self) -> None:
        for keeper in self.keepers:
            keeper.close_log()

    # -- another number of workers

    async def settle(self, timeout: float) -> None:
        """Let no new event in, and wait until none is under way; raises TimeoutError. `reopen` ends it, whatever happens."""
        self._gate.close(self.config.limits.queue)
        async with asyncio.timeout(timeout):
            while any(_is_busy(keeper) for keeper in self.keepers):  # noqa: ASYNC110 - of several callers and queues
                await asyncio.sleep(0.001)

    def reopen(self) -> int:
        """Events flow again; returns how many have waited."""
        return self._gate.open()

    def become(self, config: ModConfig, keepers: list[Keeper]) -> list[Keeper]:
        """Have other workers; returns the former ones."""
        former, self.keepers = self.keepers, keepers
        self.adopt(config)
        return former

    def adopt(self, config: ModConfig) -> None:
        """Be the mod of ``config`` from now on, whose workers there are already: the same, or another one."""
        self.former_config = replace(self.config, audience=self.audience)
        if config.mod_id != self.mod_id:
            self.audience = config.audience
        self.config = config

    def go_back(self) -> None:
        """Be what it was before the last reload. May be called again."""
        if self.former_config.mod_id != self.mod_id:
            self.audience = self.former_config.audience
        self.config = self.former_config


Mod = Keeper | WorkerGroup
"""One mod of a network: with one worker, or with several."""


def pids_of(mod: Mod) -> dict[str, Any]:
    """``pid``, None while there is no process; of a mod with several workers ``pids``, in order, and no one ``pid``."""
    pids = [keeper.incarnation.pid if keeper.incarnation is not None else None for keeper in mod.keepers]
    return {"pid": pids[0]} if isinstance(mod, Keeper) else {"pid": None, "pids": pids}


class _Gate:
    """Before which events wait, in order, while the workers change. Closed seldom; open, it costs nothing."""

    def __init__(self) -> None:
        self._opened: asyncio.Event | None = None
        self._waiting = 0
        self._room = 0

    def close(self, room: int) -> None:
        self._opened, self._room = asyncio.Event(), room

    def open(self) -> int:
        waited = self._waiting
        if self._opened is not None:
            self._opened.set()
            self._opened = None
        return waited

    async def passed(self, journey: Journey, replicas: WorkerGroup) -> None:
        """Wait until it is open. What the events under way have caused passes: they wait for it.

        Raises:
            Unanswered: too many wait, or the event's deadline has come.
        """
        if self._opened is None or any(keeper.caller.is_exempt(journey) for keeper in replicas.keepers):
            return
        if self._waiting >= self._room:
            text = f"mod {replicas.mod_id} is overloaded: {self._waiting} events are waiting"
            raise Unanswered(text, code=Code.OVERLOADED, waiting=self._waiting)
        self._waiting += 1
        try:
            async with asyncio.timeout_at(journey.deadline):
                await self._opened.wait()
        except TimeoutError:
            text = f"mod {replicas.mod_id} had no place for the event before its deadline"
            raise Unanswered(text, code=Code.TIMEOUT) from None
        finally:
            self._waiting -= 1


def _load_of(keeper: Keeper) -> int:
    """Events at it; one that is away has as many as there can be."""
    caller = keeper.caller
    return caller.in_flight_count + caller.depth if caller.away is None else 1 << 30


def _is_busy(keeper: Keeper) -> bool:
    return bool(keeper.caller.in_flight_count or keeper.caller.depth or len(keeper.durable) or len(keeper.copies))


def configs_of(config: ModConfig) -> list[ModConfig]:
    """The config of each worker of a mod that has several: ids of their own, for what each keeps for itself."""
    return [
        replace(config, mod_id=f"{config.mod_id}#{index}", workers=None, replica=index)
        for index in range(config.workers or 0)
    ]
