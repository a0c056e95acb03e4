"""The files in which mods keep what is large: checkpoints, last good versions, and `context.files`.

A file gets a new name each time, and a message behind the fence of its mod names it: the *head*. A
file is put before its head is written, and removed when another head has taken its place. Who is
cancelled or fails in between leaves a file that no head names, or parts of one; `sweeping` removes those.
"""

from __future__ import annotations

import asyncio
import logging
import secrets

from ..link.errors import ClusterError
from ..link.files import Files
from ..link.names import token

logger = logging.getLogger("modvisor.cluster")

CHECKPOINT, SNAPSHOT, FILE = KINDS = ("checkpoint", "snapshot", "file")
"""What files begin with that a head names."""


class ModsFiles:
    """Keeps such files. Every method raises ClusterError unless it says otherwise."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._dropping: dict[str, asyncio.Task[None]] = {}

    async def put(self, kind: str, mod_id: str, data: bytes) -> str:
        """Return the name of a new file. If that fails, or is cancelled, nothing of it stays."""
        name = f"{kind}.{token(mod_id)}.{secrets.token_hex(8)}"
        try:
            await self.files.put(name, data)
        except BaseException:
            self.drop_soon(name)
            raise
        return name

    async def get(self, name: str) -> bytes | None:
        """Return a file, or None. Raises as `Files.get`."""
        return await self.files.get(name)

    def drop_soon(self, name: str) -> None:
        """Remove a file that no head names, whoever is cancelled. Empty: there is none. Raises nothing."""
        if name and name not in self._dropping:
            self._dropping[name] = task = asyncio.get_running_loop().create_task(self._drop(name))
            task.add_done_callback(lambda _: self._dropping.pop(name, None))

    async def dropped(self) -> None:
        """Wait until what is to be removed by now is removed, or cannot be. Raises nothing."""
        if self._dropping:
            await asyncio.wait([*self._dropping.values()])

    async def _drop(self, name: str) -> None:
        try:
            await self.files.drop(name)
        except ClusterError as error:
            logger.info("file %s stays until the next sweep: %s", name, error)
