"""Removes files of mods that no head names (`mods_files`), and parts of files that were never complete.

A node that died as it saved a checkpoint leaves such a file, and so does a mod that is unloaded while the
servers are away. One node of the network looks for them now and then.

A file is put before its head is written. So what no head names may be about to be named: it is removed only
if no head named it at two looks, `EVERY` apart, and at a third one `SETTLED` after the second. The servers
must have answered all the time: a head may wait for them, and is written as soon as they are back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from ....ipc.errors import ModvisorError
from ..link.files import Files
from ..link.link import Link
from ..link.newest import newest_of
from .durable_log import STREAM
from .heads import CheckpointHead, head_of
from .mods_files import CHECKPOINT, FILE, KINDS, SNAPSHOT

logger = logging.getLogger("modvisor.cluster")

EVERY = 3600.0
"""Seconds between two looks. A look reads all files' names, and all heads of the kinds of which there are files."""

SETTLED = 60.0
"""Seconds that the servers answer before anything is removed. A write that waited for them has been tried again by then."""

_HEADS = {CHECKPOINT: "c", SNAPSHOT: "s", FILE: "f"}


class Present(Protocol):
    """Who is in the network."""

    node: str

    @property
    def nodes(self) -> Mapping[str, Any]: ...


class Sweep:
    """Removes what is left, at the node of the network whose name comes first."""

    def __init__(self, link: Link, files: Files, session: Present) -> None:
        self._link = link
        self._files = files
        self._session = session
        self._before: set[str] = set()  # what no head named at the last look: names of files, subjects of parts

    async def run(self) -> None:
        """Look until cancelled."""
        self._link.listeners.append(self._link_changed)
        try:
            while True:
                await asyncio.sleep(EVERY)
                await self._look()
        finally:
            self._link.listeners.remove(self._link_changed)

    def _link_changed(self, is_connected: bool) -> None:
        self._before.clear()

    async def _look(self) -> None:
        try:
            if min(self._session.nodes, default="") == self._session.node:
                await self.once()
            else:
                self._before.clear()
        except ModvisorError as error:
            self._before.clear()
            logger.info("files that nothing names could not be looked for: %s", error)

    async def once(self) -> list[str]:
        """Look once, and return what was removed. Raises ClusterError."""
        unnamed = await self.unnamed()
        if unnamed & self._before:
            await asyncio.sleep(SETTLED)
            unnamed &= await self.unnamed()
        left = sorted(unnamed & self._before)
        self._before = unnamed - set(left)
        for each in left:
            await (self._files.drop_parts(each) if each.startswith("$") else self._files.drop(each))
        if left:
            logger.info("%d files that nothing names were removed: %s", len(left), ", ".join(left[:10]))
        return left

    async def unnamed(self) -> set[str]:
        """Return the files of mods that no head names now, and the subjects of parts of no file. Raises ClusterError."""
        parts = await self._files.parts()  # in this order: what is complete or named meanwhile is seen
        files = await self._files.listed()
        of_mods = {name for name in files if name.partition(".")[0] in KINDS}
        named: set[str] = set()
        for kind in {name.partition(".")[0] for name in of_mods}:
            subjects = f"{self._link.subject(STREAM)}.*.*.{_HEADS[kind]}"
            heads, _ = await newest_of(self._link, self._link.names.stored(STREAM), subjects)
            named.update(_file_of(kind, body) for body, _ in heads.values())
        return (of_mods - named) | (parts - set(files.values()))


def _file_of(kind: str, body: Any) -> str:
    """Return the file that a head names, or the empty text."""
    if kind == CHECKPOINT:
        return CheckpointHead(*body).file
    return head_of(body).file if kind == FILE else str(body[0])
