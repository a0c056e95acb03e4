"""Checkpoints of mods that run once in a cluster: small ones in the stream of the mod, large ones as files."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ....ipc.messages import pack, unpack
from ...config import JournalConfig
from ...journal import Checkpoint
from ..link.link import Link
from ..link.names import token
from .durable_log import ClusterLog
from .fenced import Write
from .heads import CheckpointHead, checkpoint_name, newest_checkpoint
from .mod_log import ModLog, may_be_stored
from .mods_files import CHECKPOINT, ModsFiles

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
        self._files: ModsFiles | None = None

    async def open(self) -> None:
        self._files = ModsFiles(await self._link.files())

    async def close(self) -> None:
        if self._files is not None:
            await self._files.dropped()

    @property
    def files(self) -> ModsFiles:
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
        file = ""
        await self._head(log, mod_id)  # for the name of its file
        if len(packed) > min(LARGEST_MESSAGE, self._link.most_kept):
            file = await self.files.put(CHECKPOINT, mod_id, packed)
        head = CheckpointHead.of(mod_id, version, at, packed, file)
        is_held = bool(log.fenced.held)
        write = log.fenced.write(log.fenced.put(checkpoint_name(mod_id), list(head)), is_lasting=is_held)
        write.done.add_done_callback(partial(self._written, log, mod_id, write, file))
        if not is_held:
            await self._log.until_stored(log, write, f"the checkpoint of mod {mod_id}")
            await self.files.dropped()

    def _written(self, log: ModLog, mod_id: str, write: Write, file: str, done: asyncio.Future[int]) -> None:
        """Remove the file of the checkpoint that is no longer the newest, or of one that was not stored."""
        if done.exception() is None:
            self.files.drop_soon(log.checkpoint_files.get(mod_id, ""))
            log.checkpoint_files[mod_id] = file
        elif not may_be_stored(write):
            self.files.drop_soon(file)

    async def checkpoint(self, mod_id: str) -> Checkpoint | None:
        log, former = await self._log.of(mod_id), None
        while (head := await self._head(log, mod_id)) is not None:
            packed = await self.files.get(head.file) if head.file else head.packed
            if packed is not None:
                return Checkpoint(mod_id, head.version, unpack(packed), head.at, head.size)
            if head.file == former:  # else another one has taken its place meanwhile
                raise head.gone()
            former = head.file
        return None

    async def checkpoint_head(self, mod_id: str) -> tuple[str, float, int] | None:
        """Return version, time and bytes of the newest checkpoint, whichever node holds the mod."""
        subject = f"{self._log.root}.{token(self._log.unit_of(mod_id))}.{checkpoint_name(mod_id)}"
        found = await self._link.jetstream.read(self._log.stream, what=_what(mod_id), last_by_subj=subject)
        if found is None or not found.data:
            return None
        head = CheckpointHead(*self._link.seal.opened(found.data, subject.encode()))
        return head.version, head.at, head.size

    def drop_checkpoint(self, mod_id: str) -> None:
        log = self._log.opened(mod_id)
        if log is not None:
            write = log.fenced.write(log.fenced.put(checkpoint_name(mod_id), None), is_lasting=True)
            write.done.add_done_callback(partial(self._written, log, mod_id, write, ""))

    async def _head(self, log: ModLog, mod_id: str) -> CheckpointHead | None:
        head = await newest_checkpoint(log.fenced, mod_id)
        log.checkpoint_files.setdefault(mod_id, "" if head is None else head.file)
        return head


def _what(mod_id: str) -> str:
    return f"read the checkpoint of mod {mod_id}"
