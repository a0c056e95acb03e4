"""Checkpoints of mods that run once in a cluster: small ones in the stream of the mod, large ones as files."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ....ipc.messages import pack, unpack
from ...config import JournalConfig
from ...journal import Checkpoint
from ..link.errors import ClusterError
from ..link.files import Files
from ..link.link import Link
from ..link.names import token
from .durable_log import ClusterLog
from .mod_log import ModLog, may_be_stored

logger = logging.getLogger("modvisor.cluster")

LARGEST_MESSAGE = 256 * 1024
"""Bytes of a state that is kept in the stream itself. A larger one is a file, and the stream names it."""


class ClusterCheckpoints:
    """The newest checkpoint of each mod. See `CheckpointStore`.

    A checkpoint is written behind the fence of its mod: an older holder cannot put its state in the
    place of a newer one.
    """

    def __init__(self, link: Link, log: ClusterLog, config: JournalConfig) -> None:
        self._link = link
        self._log = log
        self._config = config
        self._files: Files | None = None

    async def open(self) -> None:
        self._files = await self._link.files()

    @property
    def files(self) -> Files:
        assert self._files is not None
        return self._files

    async def save_checkpoint(self, mod_id: str, version: str, state: Any) -> None:
        packed = pack(state)
        if len(packed) > self._config.checkpoint_bytes:
            most = f"{self._config.checkpoint_bytes} of journal.checkpoint_bytes"
            text = f"the checkpoint of mod {mod_id} takes {len(packed)} bytes, more than the {most}"
            raise ModvisorError(text, code=Code.TOO_LARGE)
        await self.put(mod_id, version, packed, time.time())

    async def put(self, mod_id: str, version: str, packed: bytes, at: float) -> None:
        """Keep a packed state: soon, if what the mod keeps waits until its swap is recorded."""
        log = await self._log.of(mod_id)
        file, former = "", await self._head(log, mod_id)
        if len(packed) > LARGEST_MESSAGE:
            file = f"checkpoint.{token(mod_id)}.{secrets.token_hex(8)}"
            await self.files.put(file, packed)
        body = [mod_id, version, at, len(packed), b"" if file else packed, file]
        if log.fenced.held:
            log.fenced.write(log.fenced.put(_name(mod_id), body), is_lasting=True)
            return
        write = log.fenced.write(log.fenced.put(_name(mod_id), body))
        try:
            await asyncio.shield(write.done)
        except ModvisorError:
            if not may_be_stored(write):
                await self._remove(file)
            raise
        await self._remove("" if former is None else former[5])

    async def checkpoint(self, mod_id: str) -> Checkpoint | None:
        head = await self._head(await self._log.of(mod_id), mod_id)
        if head is None:
            return None
        _, version, at, size, packed, file = head
        if file and (packed := await self.files.get(file)) is None:
            raise ModvisorError(f"the checkpoint of mod {mod_id} is gone: the file '{file}' was deleted")
        return Checkpoint(mod_id, version, unpack(packed), at, size)

    async def checkpoint_head(self, mod_id: str) -> tuple[str, float, int] | None:
        """Return version, time and bytes of the newest checkpoint, whichever node holds the mod."""
        subject = f"{self._log.root}.{token(self._log.unit_of(mod_id))}.{_name(mod_id)}"
        found = await self._link.jetstream.read(self._log.stream, what=_what(mod_id), last_by_subj=subject)
        if found is None or not found.data:
            return None
        _, version, at, size, _, _ = self._link.seal.opened(found.data, subject.encode())
        return version, at, size

    def drop_checkpoint(self, mod_id: str) -> None:
        log = self._log.opened(mod_id)
        if log is not None:
            log.fenced.write(log.fenced.put(_name(mod_id), None), is_lasting=True)

    async def _head(self, log: ModLog, mod_id: str) -> list[Any] | None:
        found = await log.fenced.newest(f"{log.fenced.root}.{_name(mod_id)}")
        return None if found is None or not found.data else log.fenced.opened(found)

    async def _remove(self, file: str) -> None:
        """Remove the file of a checkpoint that is no longer the newest."""
        if file:
            try:
                await self.files.drop(file)
            except ClusterError as error:
                logger.warning("a former checkpoint stays as the file %s: %s", file, error)


def _name(mod_id: str) -> str:
    return f"{token(mod_id)}.c"


def _what(mod_id: str) -> str:
    return f"read the checkpoint of mod {mod_id}"
