"""The files of mods that run once in a cluster (`context.files`): the store of files has what is in them.

Which file is the newest of its name is written behind the fence of the mod: an older holder changes
nothing. The names are read once by each holder, which alone changes them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable

from ....ipc.errors import ModvisorError
from ...config import JournalConfig
from ...journal import FileStore, check_file
from ..link.errors import ClusterError, NoQuorum
from ..link.files import Files
from ..link.link import Link
from .durable_log import ClusterLog
from .heads import Head, subject_of
from .mod_log import ModLog, may_be_stored

logger = logging.getLogger("modvisor.cluster")


class ClusterModFiles:
    """A `FileStore`; what mods keep that run on all nodes stays on each node."""

    def __init__(
        self, link: Link, log: ClusterLog, files: Callable[[], Files], local: FileStore, config: JournalConfig
    ) -> None:
        self._patience = 5 * link.config.timeout
        self._log = log
        self._files = files
        self._local = local
        self._config = config

    async def put(self, mod_id: str, name: str, data: bytes) -> None:
        if not self._log.is_here(mod_id):
            return await self._local.put(mod_id, name, data)
        log, heads = await self._opened(mod_id)
        async with log.changing:
            former = heads.get(name)
            others = [head.size for head in heads.values() if head is not former]
            check_file(mod_id, name, len(data), len(others), sum(others), self._config)
            head = Head(name, time.time(), len(data), f"file.{secrets.token_hex(16)}")
            await self._files().put(head.file, data)
            await self._change(log, name, head)
            heads[name] = head
        await self._remove(former)
        return None

    async def get(self, mod_id: str, name: str) -> bytes | None:
        if not self._log.is_here(mod_id):
            return await self._local.get(mod_id, name)
        _, heads = await self._opened(mod_id)
        while (head := heads.get(name)) is not None:
            if (data := await self._files().get(head.file)) is not None:
                return data
            if heads.get(name) is head:  # else another one has taken its place meanwhile
                text = f"the file {name!r} of mod {mod_id} is gone: '{head.file}' was deleted at the servers"
                raise ModvisorError(text)
        return None

    async def list(self, mod_id: str) -> list[str]:
        if not self._log.is_here(mod_id):
            return await self._local.list(mod_id)
        return sorted((await self._opened(mod_id))[1])

    async def drop(self, mod_id: str, name: str) -> bool:
        if not self._log.is_here(mod_id):
            return await self._local.drop(mod_id, name)
        log, heads = await self._opened(mod_id)
        async with log.changing:
            if (former := heads.get(name)) is None:
                return False
            await self._change(log, name, None)
            del heads[name]
        await self._remove(former)
        return True

    async def _opened(self, mod_id: str) -> tuple[ModLog, dict[str, Head]]:
        log = await self._log.of(mod_id)
        try:
            async with asyncio.timeout(self._patience):
                return log, await log.read_heads()
        except TimeoutError:
            text = f"the files of mod {mod_id} could not be read within {self._patience:g} s"
            raise NoQuorum(text) from None

    async def _change(self, log: ModLog, name: str, head: Head | None) -> None:
        """Write which file is the newest, unless another node has the mod by now."""
        write = log.fenced.write(log.fenced.put(subject_of(name), None if head is None else list(head)))
        try:
            await asyncio.shield(write.done)
        except ModvisorError:
            if not may_be_stored(write):
                await self._remove(head)
            raise

    async def _remove(self, head: Head | None) -> None:
        """Remove what is no longer the newest."""
        if head is not None:
            try:
                await self._files().drop(head.file)
            except ClusterError as error:
                logger.warning("a former file of a mod stays as %s: %s", head.file, error)
