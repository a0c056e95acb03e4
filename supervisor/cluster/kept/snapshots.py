"""The last good version of each mod that runs once: on this node's disk, and for the other nodes as a file."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from ....ipc.errors import ModvisorError
from ...sources import Home, SnapshotStore, SourceFiles, in_thread
from ..link.files import Files
from ..link.link import Link
from ..link.names import token
from ..mods.digests import Code, code_that_runs
from .durable_log import ClusterLog
from .mod_log import may_be_stored

_NOWHERE = Home()

logger = logging.getLogger("modvisor.cluster")


class ClusterSnapshots(SnapshotStore):
    """Snapshots of one node of a cluster. See `SnapshotStore`.

    What names the newest version is written behind the fence of its mod.

    Attributes:
        codes: what each worker that has served here is made of.
    """

    def __init__(self, folder: Path, link: Link, log: ClusterLog, files: Callable[[], Files]) -> None:
        super().__init__(folder)
        self._link = link
        self._log = log
        self._files = files
        self.codes: dict[str, Code] = {}
        self._later: set[asyncio.Task[None]] = set()

    async def write(
        self,
        mod_id: str,
        mod_path: str,
        modules: Any,
        home: Home = _NOWHERE,
        asked: str | None = None,
        *,
        on_trial: bool = False,
    ) -> SourceFiles:
        self.codes.pop(mod_id, None)
        if (code := await in_thread(code_that_runs, mod_path, modules, home, asked)) is not None:
            self.codes[mod_id] = code
        made_of = await super().write(mod_id, mod_path, modules, home, asked, on_trial=on_trial)
        if not on_trial:
            await self._share(mod_id)
        return made_of

    async def accept(self, mod_id: str) -> None:
        await super().accept(mod_id)
        await self._share(mod_id)

    async def read(self, mod_id: str) -> Any:
        await self._fetch(mod_id)
        return await super().read(mod_id)

    async def is_of(self, mod_id: str, mod_path: str, asked: str | None = None) -> bool:
        await self._fetch(mod_id)
        return await super().is_of(mod_id, mod_path, asked)

    async def forget(self, mod_id: str) -> None:
        """Delete the snapshots of an id here. The other nodes' file goes with the next version."""
        self.codes.pop(mod_id, None)
        await super().forget(mod_id)
        if (log := self._log.opened(mod_id)) is not None:
            log.fenced.write(log.fenced.put(_name(mod_id), None), is_lasting=True)

    async def take(self, unit: str, other: str) -> bytes | None:
        """Make the version of another copy that of a copy here, see `Versions`."""
        former, newest = await self._newest(unit), await self._newest(other)
        data = None if newest is None else await self._files().get(newest[0])
        if data is None:
            raise ModvisorError(f"nothing is kept of the version of {other}")
        before = None if former is None else await self._files().get(former[0])
        await self._share_bytes(unit, data)
        return before

    async def put_back(self, unit: str, former: bytes) -> None:
        await self._share_bytes(unit, former)

    async def _share(self, mod_id: str) -> None:
        """Give the version that is here to the other nodes. Raises OSError."""
        if not self._log.is_here(mod_id):
            return
        data = await in_thread(self._file(mod_id).read_bytes)
        if (
            log := self._log.opened(mod_id)
        ) is not None and log.fenced.held:  # until the swap is over that waits for this
            task = asyncio.get_running_loop().create_task(self._share_later(mod_id, data))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
            return
        try:
            await self._share_bytes(mod_id, data)
        except ModvisorError as error:
            raise OSError(f"other nodes do not have it: {error}") from None

    async def _share_later(self, mod_id: str, data: bytes) -> None:
        try:
            await self._share_bytes(mod_id, data)
        except ModvisorError as error:
            logger.warning("mod %s: other nodes do not have its last good version: %s", mod_id, error)

    async def _share_bytes(self, mod_id: str, data: bytes) -> None:
        former, digest = await self._newest(mod_id), sha256(data).digest()
        if former is not None and former[1] == digest:
            return
        log, file = await self._log.of(mod_id), f"snapshot.{token(mod_id)}.{secrets.token_hex(8)}"
        await self._files().put(file, data)
        write = log.fenced.write(log.fenced.put(_name(mod_id), [file, digest]))
        try:
            await asyncio.shield(write.done)
        except ModvisorError:
            if not may_be_stored(write):
                await self._files().drop(file)
            raise
        if former is not None:
            await self._files().drop(former[0])

    async def _fetch(self, mod_id: str) -> None:
        """Have the version here that the network has.

        Raises:
            ModvisorError: it cannot be read now. What this node has, or its files, may be another version.
        """
        if not self._log.is_here(mod_id):
            return
        try:
            newest = await self._newest(mod_id)
            if newest is None or newest[1] == await in_thread(self._digest, mod_id):
                return
            if (data := await self._files().get(newest[0])) is not None:
                await in_thread(self._write, self._file(mod_id), data)
        except ModvisorError as error:
            raise ModvisorError(f"its last good version cannot be read: {error}", code=error.code) from None

    def _digest(self, mod_id: str) -> bytes | None:
        try:
            return sha256(self._file(mod_id).read_bytes()).digest()
        except FileNotFoundError:
            return None

    async def _newest(self, mod_id: str) -> tuple[str, bytes] | None:
        """Return the file and the digest of the network's version of a mod."""
        subject = f"{self._log.root}.{token(self._log.unit_of(mod_id))}.{_name(mod_id)}"
        what = f"read the last good version of mod {mod_id}"
        found = await self._link.jetstream.read(self._log.stream, what=what, last_by_subj=subject)
        if found is None or not found.data:
            return None
        file, digest = self._link.seal.opened(found.data, subject.encode())
        return file, digest


def _name(mod_id: str) -> str:
    return f"{token(mod_id)}.s"
