"""Bodies that are too large for a message of the servers: they lie in the files of the network, and a message names them."""

from __future__ import annotations

import asyncio
import itertools
import logging

from ....ipc.errors import FrameTooLarge
from ..link.errors import ClusterError
from ..link.files import Files
from ..link.link import Link
from ..link.seal import NotSealed
from .frames import BadFrame

logger = logging.getLogger("modvisor.cluster")

SPARE = 4096
"""Bytes of a message that are left for what surrounds an event or an answer."""


class Large:
    """Carries large bodies of one node.

    Attributes:
        carried: how many bodies went by a file.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._numbers = itertools.count(1)
        self._files: Files | None = None
        self._dropping: set[asyncio.Task[None]] = set()
        self.carried = 0

    def is_large(self, size: int) -> bool:
        """Whether a body with bytes of this size goes by a file. Raises LinkDown."""
        return size > self._link.max_body - SPARE

    async def put(self, packed: bytes) -> str:
        """Return the name of the file in which a large body lies.

        Raises:
            FrameTooLarge: it is larger than `cluster.max_payload`.
            ClusterError: it cannot be kept.
        """
        if len(packed) > (most := self._link.config.max_payload):
            text = (
                f"{len(packed)} bytes are more than one event or answer between nodes may have ({most}); "
                "raise 'cluster.max_payload', or send less"
            )
            raise FrameTooLarge(text, limit=most)
        name = f"passing/{self._link.instance}/{next(self._numbers)}"
        await (await self._store()).put(name, packed)
        self.carried += 1
        return name

    async def take(self, name: str) -> bytes:
        """Return a large body. Raises ClusterError, BadFrame."""
        try:
            packed = await (await self._store()).get(name)
        except NotSealed as error:
            raise BadFrame(f"a large message cannot be read: {error}") from None
        if packed is None:
            raise BadFrame("a large message is not in the files of the network any more")
        return packed

    def drop(self, name: str) -> None:
        """Remove a file that nobody needs any more, later."""
        task = asyncio.get_running_loop().create_task(self._drop(name))
        self._dropping.add(task)
        task.add_done_callback(self._dropping.discard)

    async def _drop(self, name: str) -> None:
        try:
            await (await self._store()).drop(name)
        except ClusterError as error:
            logger.warning("a file of a large message is left behind: %s", error)

    async def _store(self) -> Files:
        if self._files is None:
            self._files = await self._link.files()
        return self._files
