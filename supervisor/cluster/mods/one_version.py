"""Sees that all copies of a mod end on one version, though the node of one of them dies, or it moves, on probation.

The record of a mod says what a reload has made of it (`Record.code`). A copy whose node dies while that
version is on probation starts with the version before, since nothing has proved the new one. Then:

* The other copies accept the new version: the copy follows them, from the sources that they have kept.
* They go back: so does the record, and the copy runs what they run. A copy that has moved before, and has
  accepted the new version by that, follows them in the same way.

A mod whose code cannot be compared (it is in another language) starts from the files of its node, as ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from ....ipc.errors import ModvisorError
from ...config import ModConfig
from ...fleet import ModRegistry, unit_named
from ...lifecycle import Keeper, ReloadFailed, State, replace_worker
from .claims import NodeClaims
from .codes import Codes
from .desired import Desired, Record
from .digests import asked_of
from .placing import Placing
from .statuses import Status, Statuses
from .steps import REVERT
from .wanted import Wanted, units_of_config

logger = logging.getLogger("modvisor.cluster")


PAUSE = 1.0
"""Seconds until a copy tries again to follow what could not be read."""


class Versions(Protocol):
    """The last good versions of mods and copies, as all nodes have them."""

    async def take(self, unit: str, other: str) -> bytes | None:
        """Make the version of another copy that of a copy here. Returns the former one; None if there is none.

        Raises:
            ModvisorError, OSError: it cannot be read or written now.
        """
        ...

    async def put_back(self, unit: str, former: bytes) -> None:
        """Make the former version that of a copy again. Raises as `take`."""
        ...


class OneVersion:
    """Has the copies here follow the version that the network wants.

    Attributes:
        freed: called when a copy is left to commands again.
    """

    def __init__(
        self,
        mods: ModRegistry,
        desired: Desired,
        wanted: Wanted,
        claims: NodeClaims,
        statuses: Statuses,
        placing: Placing,
        codes: Codes,
        versions: Versions,
        tasks: TaskGroup,
    ) -> None:
        self._mods = mods
        self._desired = desired
        self._wanted = wanted
        self._claims = claims
        self._statuses = statuses
        self._placing = placing
        self._codes = codes
        self._versions = versions
        self._tasks = tasks
        self._failed: dict[str, tuple[int, int]] = {}  # by copy: what it could not follow, and its own claim
        self.freed: Callable[[], None] = lambda: None

    def look(self, record: Record) -> None:
        """Begin what the copies here lack of a mod on which no command is under way."""
        config = self._wanted.configs.get(record.mod_id)
        if config is None or not config.placement.has_copies or (record.code is None and not _went_back(record)):
            return
        for unit in units_of_config(config):
            if (leader := self._leader_of(unit, record)) is not None and self._placing.reserve(unit.mod_id):
                name = f"follow-{unit.mod_id}"
                self._tasks.start_soon(self._follow, unit, leader, record, name=name)

    def _leader_of(self, unit: ModConfig, record: Record) -> str | None:
        """Return the copy whose version a copy here is to run; None: it runs that one, or nobody has accepted it yet."""
        mod_id, keeper, held = unit.mod_id, unit_named(self._mods, unit.mod_id), self._claims.mine(unit.mod_id)
        if not isinstance(keeper, Keeper) or keeper.state is not State.READY or keeper.probation is not None:
            return None
        if held is None or self._wanted.is_under_way(record.mod_id):
            return None
        if self._failed.get(mod_id) == (record.generation, held.revision):
            return None
        code = self._codes.of(mod_id)
        if code is None or record.code in (None, code.digest):
            return mod_id if _went_back(record) and _is_asked_otherwise(keeper.config, unit) else None
        known, units = self._statuses.known, units_of_config(self._wanted.configs[record.mod_id])
        others = (each.mod_id for each in units if each.mod_id in known)
        return next(
            (each for each in others if self._has_accepted(each, known[each], record.code, asked_of(unit))), None
        )

    def _has_accepted(self, unit: str, status: Status, digest: str | None, asked: str) -> bool:
        held, code = self._claims.held.get(unit), status.code
        is_newest = held is not None and held.revision == status.token and status.state is State.READY
        return is_newest and not status.on_trial and code is not None and (code.digest, code.asked) == (digest, asked)

    async def _follow(self, unit: ModConfig, leader: str, record: Record) -> None:
        mod_id, keeper, held = unit.mod_id, unit_named(self._mods, unit.mod_id), self._claims.mine(unit.mod_id)
        try:
            if isinstance(keeper, Keeper) and held is not None:
                async with self._placing.lock_of(keeper):
                    if self._leader_of(unit, self._desired.records.get(record.mod_id, record)) == leader:
                        await self._replace(keeper, unit, leader)
        except ReloadFailed as error:
            logger.error("mod %s runs another version than %s, and could not follow it: %s", mod_id, leader, error)
            if held is not None:
                self._failed[mod_id] = record.generation, held.revision
        except (ModvisorError, OSError) as error:
            logger.warning("mod %s follows %s to its version later: %s", mod_id, leader, error)
            await anyio.sleep(PAUSE)
        finally:
            self._placing.free(mod_id)
            self.freed()

    async def _replace(self, keeper: Keeper, unit: ModConfig, leader: str) -> None:
        former, had = None, keeper.kept.has_snapshot
        if leader != unit.mod_id:
            former = await self._versions.take(unit.mod_id, leader)
            keeper.kept.has_snapshot = True
        try:
            await replace_worker(keeper, unit, from_snapshot=True, on_probation=False)
        except ReloadFailed:
            keeper.kept.has_snapshot = had
            if former is not None:
                await self._versions.put_back(unit.mod_id, former)
            raise
        self._codes.accepted(unit.mod_id)
        logger.warning("mod %s has followed %s to the version that all copies run", unit.mod_id, leader)


def _went_back(record: Record) -> bool:
    """Whether the newest command on a mod took all copies back to the version before."""
    return record.command is not None and record.command.do == REVERT


def _is_asked_otherwise(config: ModConfig, wanted: ModConfig) -> bool:
    asked = config.as_asked
    return (asked.path, asked.config) != (wanted.path, wanted.config)
