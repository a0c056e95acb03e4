"""Files in which bodies pass from one node to another that are too large for a message: the message names the file."""

from __future__ import annotations

import asyncio
import itertools
import logging

from .errors import ClusterError
from .files import Files
from .link import Link

logger = logging.getLogger("modvisor.cluster")


class Passing:
    """Puts such files, gets them, and removes them.

    Args:
        what: passes, for the names of the files.
    """

    def __init__(self, link: Link, what: str) -> None:
        self._link, self._what = link, what
        self._numbers = itertools.count(1)
        self._files: Files | None = None
        self._dropping: set[asyncio.Task[None]] = set()

    async def put(self, data: bytes) -> str:
        """Return the name of a new file. Raises ClusterError: it cannot be kept."""
        name = f"{self._what}/{self._link.instance}/{next(self._numbers)}"
        await (await self._store()).put(name, data)
        return name

    async def get(self, name: str) -> bytes | None:
        """Return a file, of any node, or None. Raises as `Files.get`."""
        return await (await self._store()).get(name)

    async def drop(self, name: str) -> None:
        """Remove a file, if that can be done now."""
        try:
            await (await self._store()).drop(name)
        except ClusterError as error:
            logger.info("file %s stays in the store: %s", name, error)

    def drop_soon(self, name: str) -> None:
        """Remove a file that nobody needs any more, later."""
        self._dropping.add(task := asyncio.get_running_loop().create_task(self.drop(name)))
        task.add_done_callback(self._dropping.discard)

    async def _store(self) -> Files:
        if self._files is None:
            self._files = await self._link.files()
        return self._files
