"""Swaps a mod for one with another id, so that the next node can finish what a dead one has begun.

1. Claim the new id, and open what is kept of both mods.
2. Swap, as on one machine: the new mod serves, and has the events of the old one in memory.
3. Record it: the new mod is wanted in the place of the old one. From here on the swap is done.
4. Write down whose the kept events and the checkpoint are now (`kept.handing_on`).
5. Answer the command, then release the claim of the old mod.

A node that dies before 3 has changed nothing: the next one starts the old mod, and does the swap. After
3, nobody starts either of the mods until the next node has done 4 and 5.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import anyio

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ...config import ModConfig
from ...fleet import Claim, Loading, Mod, ModElsewhere
from ..link.errors import ClusterError
from .claims import NodeClaims
from .desired import Command, Desired, Record

logger = logging.getLogger("modvisor.cluster")

PAUSE = 0.2
"""Seconds between two tries to record what is done already."""


class Keeping(Protocol):
    """What is kept of mods that run once."""

    async def open_for(self, *mod_ids: str) -> None: ...
    async def handed_on(self, former: str, mod_id: str) -> None: ...
    async def not_handed_on(self, former: str, mod_id: str) -> None: ...
    def hand_on(self, former: str, mod_id: str) -> None: ...
    def workers_of(self, mod_id: str) -> list[str]: ...


class LeftToOthers(Exception):
    """This node has lost the mod meanwhile: the next node that has it does the command."""


class Swapping:
    """Swaps mods that run once."""

    def __init__(self, loading: Loading, desired: Desired, claims: NodeClaims, kept: Keeping) -> None:
        self._loading = loading
        self._mods = loading.commands.mods
        self._rights = loading.commands.rights
        self._desired = desired
        self._claims = claims
        self._kept = kept
        self._lent: dict[str, Claim] = {}  # claims of mods that were swapped, until the command is answered

    async def swap(
        self, command: Command, mod: Mod, config: ModConfig, wanted: Callable[[], dict[str, Any]]
    ) -> EventResponse:
        """Swap a mod that runs here.

        Args:
            wanted: returns how the new mod is wanted, for its record.

        Raises:
            LeftToOthers: the next node does it.
        """
        old_id, new_id = mod.mod_id, config.mod_id
        if (refusal := self._mods.may_load(config, instead_of=mod) or _is_mixed(mod.config, config)) is not None:
            return refusal
        keeps = mod.config.durable or config.durable or any(each.checkpoints.are_kept for each in mod.keepers)
        await self._rights.take(new_id)
        if keeps:
            await self._kept.open_for(old_id, new_id)
        lent = self._rights.lend(old_id) or self._claim_of(old_id)
        # A version that is on probation cannot give its place back: the record says that it has it.
        config = replace(config, probation=None)
        response = await self._loading.commands.swap(old_id, config, alias=bool(command.args["alias"]))
        if not response.success:
            if lent is not None:
                self._rights.take_back(lent)
            await self._kept.not_handed_on(old_id, new_id)
            if self._mods.get(new_id) is None:
                await self._rights.give_back(new_id)
            return response
        if lent is not None:
            self._lent[old_id] = lent
        await self._record(command, old_id, new_id, wanted)
        await self._write_down(old_id, new_id)
        return response

    def _claim_of(self, mod_id: str) -> Claim | None:
        held = self._claims.mine(mod_id)
        return None if held is None else Claim(mod_id, held.revision)

    async def _record(self, command: Command, old_id: str, new_id: str, wanted: Callable[[], dict[str, Any]]) -> None:
        changes = {**wanted(), "swapped_by": command.id}
        while True:
            try:
                await self._desired.edit(new_id, lambda record: record.changed(**changes))
            except ClusterError as error:
                if self._claims.mine(old_id) is None:
                    raise LeftToOthers from None
                logger.warning("mod %s: that %s has its place is recorded later: %s", old_id, new_id, error)
                await anyio.sleep(PAUSE)
            else:
                return

    async def _write_down(self, old_id: str, new_id: str) -> None:
        try:
            await self._kept.handed_on(old_id, new_id)
        except ModvisorError as error:
            logger.warning("%s; the next node finishes the swap", error)
            raise LeftToOthers from None

    async def finish(self, mod_id: str, new: Record) -> EventResponse:
        """Finish the swap of a node that died when it was recorded. Neither of the mods runs."""
        for name in (mod_id, new.mod_id):
            await self._rights.take(name)
        try:
            await self._kept.open_for(mod_id, new.mod_id)
            for worker in [*self._kept.workers_of(mod_id), mod_id]:
                self._kept.hand_on(worker, new.mod_id + worker.removeprefix(mod_id))
            await self._write_down(mod_id, new.mod_id)
        finally:
            await self._rights.give_back(new.mod_id)
            if (lent := self._rights.lend(mod_id)) is not None:
                self._lent[mod_id] = lent
        text = f"mod {mod_id} swapped for {new.mod_id}; the node that began it died, and another one has finished it"
        return EventResponse(True, text, {"mod_id": new.mod_id, "mod_path": new.path, "former_id": mod_id})

    async def answered(self, mod_id: str) -> None:
        """Release the claim of a mod that was swapped, when its command is answered."""
        if (claim := self._lent.pop(mod_id, None)) is not None:
            self._mods.tokens.pop(mod_id, None)
            try:
                await self._claims.release(claim)
            except ModvisorError as error:
                logger.warning("mod %s: its claim was not given back: %s", mod_id, error)


def _is_mixed(old: ModConfig, new: ModConfig) -> EventResponse | None:
    """Refuse a swap for a mod that runs on another number of nodes: what is kept would have nowhere to go."""
    if old.placement.copies == new.placement.copies:
        return None
    text = (
        f"mod {old.mod_id} is not swapped for {new.mod_id}: placement.copies is {old.placement.copies} here and "
        f"{new.placement.copies} there; unload the one, and load the other"
    )
    return EventResponse.failure(Code.CONFLICT, text, mod_id=old.mod_id)


def runs_here(mod: Mod | None) -> bool:
    return mod is not None and not isinstance(mod, ModElsewhere)
