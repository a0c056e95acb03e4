"""Audiences of a cluster: changed on any node, in force on all.

The node that is asked computes the change as a network on one machine does, and writes how the family
is divided now, unless another node was faster: then it takes that division first, and computes anew.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ....ipc.errors import Code, ModvisorError
from ....ipc.event import EventResponse
from ...config import family_of
from ...fleet import Audiences, ModRegistry
from ..link.buckets import Bucket, Watch
from ..link.errors import Taken
from ..link.names import text_of, token

logger = logging.getLogger("modvisor.cluster")

PREFIX = "family."
ATTEMPTS = 10


class SharedAudiences:
    """The commands on families, with what other nodes have changed."""

    def __init__(self, bucket: Bucket, mods: ModRegistry, local: Audiences) -> None:
        self._bucket = bucket
        self._mods = mods
        self._local = local
        self._lock = anyio.Lock()
        self._kept: dict[str, tuple[int, dict[str, Any]]] = {}  # by family: revision and division
        self._watch: Watch | None = None

    async def open(self) -> None:
        self._watch = await self._bucket.mirror(PREFIX, self._changed)

    async def close(self) -> None:
        if self._watch is not None:
            await self._watch.close()

    def _changed(self, key: str, value: Any, revision: int) -> None:
        family = text_of(key.removeprefix(PREFIX))
        if value is None:
            self._kept.pop(family, None)
        elif revision > self._kept.get(family, (0, None))[0]:
            self._kept[family] = revision, value
            self._apply(family)

    def apply(self) -> None:
        """Divide all families as they are kept; mods have come that are not divided yet."""
        for family in self._kept:
            self._apply(family)

    def _apply(self, family: str) -> None:
        mods = [mod for mod in self._mods if family_of(mod.mod_id) == family]
        try:
            self._mods.families.take(family, self._kept[family][1], mods)
        except (KeyError, TypeError, ValueError, ModvisorError) as error:
            logger.error("how %s is divided cannot be read from what the cluster keeps: %s", family, error)

    # -- commands

    async def set_audience(self, mod: str, **given: Any) -> EventResponse:
        return await self._shared(mod, lambda: self._local.set_audience(mod, **given))

    async def promote(self, mod: str) -> EventResponse:
        return await self._shared(mod, lambda: self._local.promote(mod))

    async def rollback(self, mod: str) -> EventResponse:
        return await self._shared(mod, lambda: self._local.rollback(mod))

    async def _shared(self, name: str, do: Callable[[], Awaitable[EventResponse]]) -> EventResponse:
        async with self._lock:
            family = self._family(name)
            for _ in range(ATTEMPTS):
                before = self._mods.families.to_plain(family)
                response = await do()
                if not response.success:
                    return response
                try:
                    await self._write(family)
                except Taken:
                    await self._learn(family)
                except ModvisorError as error:
                    self._undo(family, before)
                    return EventResponse.failure(
                        error.code, f"{family} stays divided as it was: {error}", family=family
                    )
                else:
                    return response
            text = f"{family} was changed on other nodes again and again meanwhile; try again"
            return EventResponse.failure(Code.CONFLICT, text, family=family)

    def _family(self, name: str) -> str:
        found = self._mods.find(name)
        return name if found is None else family_of(found.mod_id)

    def _undo(self, family: str, before: dict[str, Any]) -> None:
        self._mods.families.take(family, before, self._mods.families.members(family))

    async def _write(self, family: str) -> None:
        key, value = PREFIX + token(family), self._mods.families.to_plain(family)
        revision = self._kept.get(family, (0, None))[0]
        if revision:
            revision = await self._bucket.update(key, value, revision)
        else:
            revision = await self._bucket.create(key, value)
        self._kept[family] = revision, value

    async def _learn(self, family: str) -> None:
        """Take the division that another node has written."""
        entry = await self._bucket.get(PREFIX + token(family))
        if entry is None:
            self._kept.pop(family, None)
        else:
            self._changed(entry.key, entry.value, entry.revision)
