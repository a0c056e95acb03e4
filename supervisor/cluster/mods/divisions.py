"""Divides what is kept of a mod anew when it has another number of copies. See `kept.splitting`.

The record of a mod says for how many copies it is kept. While that is another number than is wanted, no copy
is claimed. The node that should run the first copy claims all of them, has a worker of the mod split the
states, and gives the claims back.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import Event
from ....ipc.partition import LEAST_LOADED, SOURCE, key_of, partition_of
from ...config import ModConfig
from ...fleet import Claim, Loading, part_id, unit_named
from ...lifecycle import Keeper, StartFailed
from ...process import shielded
from .claims import NodeClaims
from .desired import Desired, Record
from .stand_ins import StandIns
from .statuses import Statuses
from .wanted import Wanted

logger = logging.getLogger("modvisor.cluster")


class Division(NamedTuple):
    """How what is kept of a mod is to be divided.

    Attributes:
        parts: for how many copies it is kept, as far as that is recorded.
        towards: for how many a node that died began to divide it; None: none did.
        number: for how many copies it is to be kept.
        tokens: the fencing tokens of the mod and of all copies, by id.
    """

    parts: int
    towards: int | None
    number: int
    tokens: Mapping[str, int]


Part = Callable[[list[Any], str], Awaitable[list[Any]]]
"""Has the mod split states of a version; an item is None for a copy without a state."""


def units_among(mod_id: str, number: int) -> list[str]:
    """Return the ids of the copies of a mod, or of the mod, if it is the only one."""
    return [mod_id] if number == 1 else [part_id(mod_id, part) for part in range(number)]


class Splits(Protocol):
    """Divides what the cluster keeps of a mod, see `kept.splitting.Splitting`."""

    async def split(self, mod_id: str, asked: Division, owner_of: Callable[[Event], int], part: Part, /) -> None: ...


class Divisions:
    """Sees that what is kept of mods with copies is for as many as are wanted."""

    def __init__(
        self,
        loading: Loading,
        desired: Desired,
        wanted: Wanted,
        claims: NodeClaims,
        statuses: Statuses,
        stand_ins: StandIns,
        kept: Splits,
    ) -> None:
        self._loading = loading
        self._desired = desired
        self._wanted = wanted
        self._claims = claims
        self._statuses = statuses
        self._stand_ins = stand_ins
        self._kept = kept

    async def note(self, configs: Sequence[ModConfig]) -> bool:
        """Record for how many copies mods are about to keep something, before the first one starts.

        Returns:
            whether something is to be divided first.

        Raises:
            ClusterError: not now.
        """
        for name in {config.name for config in configs if config.replica is not None}:
            config = self._wanted.configs.get(name)
            if config is not None and not self._wanted.is_divided(name):
                count = 1 if name in self._statuses.known else int(config.placement.copies)  # it ran without copies
                await self._desired.edit(name, lambda found, count=count: _divided(found, found.parts or count))
        return any(self._wanted.is_uneven(config.name) for config in configs)

    async def split(self, bring_home: Callable[[ModConfig, Claim], Any], units: list[str]) -> None:
        """Divide what is kept of the mod whose first copy this node should run: the only one of ``units``.

        Raises:
            ModvisorError: not now.
        """
        (unit,) = units
        config = self._wanted.units[unit]
        name, record = config.name, self._desired.records[config.name]
        count = int(self._wanted.configs[name].placement.copies)
        assert record.parts is not None
        numbers = {record.parts, record.split or count, count}
        units_of_all = dict.fromkeys([name, *(each for number in numbers for each in units_among(name, number))])
        claims: dict[str, Claim] = {}
        keeper: Keeper | None = None
        try:
            for each in units_of_all:
                claims[each] = await self._claimed(each)
            keeper = bring_home(config, claims[unit])
            assert keeper is not None
            await self._split(
                keeper, Division(record.parts, record.split, count, {u: c.token for u, c in claims.items()})
            )
        except StartFailed as error:
            if keeper is None or error.code == Code.CLUSTER_DOWN:
                raise
            logger.error("mod %s did not start: %s", name, error)
            keeper.not_started(str(error))  # it stays, with the reason
            keeper = None
        finally:
            stays = unit if keeper is None else None
            if keeper is not None and unit_named(self._loading.commands.mods, unit) is keeper:
                self._stand_ins.send_away(keeper)  # it is claimed anew, and starts as any copy does
                keeper.close_log()
            await shielded(self._give_back([claim for each, claim in claims.items() if each != stays]))
        if not self._wanted.is_uneven(name):
            for each in [each for each in units_of_all if each not in self._wanted.units]:
                await self._statuses.forget(each)

    async def _claimed(self, unit: str) -> Claim:
        if (claim := await self._claims.claim(unit)) is None:
            text = f"what is kept of {unit} is divided anew when no node runs it any more"
            raise ModvisorError(text, code=Code.MOD_AWAY)
        return claim

    async def _split(self, keeper: Keeper, asked: Division) -> None:
        """Raises StartFailed: the mod cannot split its state. ModvisorError: not now."""
        name, config = keeper.config.name, self._wanted.configs[keeper.config.name]
        await self._loading.commands.records.find_snapshots(keeper)
        await self._desired.edit(name, lambda found: replace(found, split=asked.number))

        async def part(states: list[Any], version: str) -> list[Any]:
            return await _parts_of(keeper, states, version, asked.number)

        await self._kept.split(name, asked, lambda event: _owner_of(config, event, asked.number), part)
        await self._desired.edit(name, lambda found: _divided(found, asked.number))
        logger.warning("mod %s: what is kept of its copies was divided among %d", name, asked.number)

    async def _give_back(self, claims: list[Claim]) -> None:
        for claim in claims:
            try:
                await self._claims.release(claim)
            except ModvisorError as error:
                logger.warning("mod %s: its claim was not given back: %s", claim.mod_id, error)


def _divided(record: Record, parts: int) -> Record:
    return replace(record, parts=parts, split=None)


def _owner_of(config: ModConfig, event: Event, count: int) -> int:
    by = config.partition_by or SOURCE
    return 0 if by == LEAST_LOADED else partition_of(key_of(by, event.source_id, event.payload), count)


async def _parts_of(keeper: Keeper, states: list[Any], version: str, count: int) -> list[Any]:
    """Have a worker of the mod split the states, and end it again."""
    worker = await keeper.start_incarnation(from_snapshot=keeper.kept.has_snapshot)
    try:
        return await worker.part(states, version, count, worker.config.limits.start_timeout)
    except (ModvisorError, TimeoutError) as error:
        name = keeper.config.name
        text = (
            f"mod {name} had {len(states)} copies when it last ran, and cannot split its state for {count}: {error}; "
            f"set 'placement.copies: {len(states)}', or unload it to forget its state"
        )
        raise StartFailed(text, code=Code.STATE_REFUSED) from None
    finally:
        await shielded(worker.kill("it was only asked to split the state"))
