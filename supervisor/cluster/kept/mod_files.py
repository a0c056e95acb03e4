"""The files of mods that run once in a cluster (`context.files`): the store of files has what is in them.

Which file is the newest of its name is written behind the fence of the mod: an older holder changes
nothing. The names are read once by each holder, which alone changes them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from ....ipc.errors import ModvisorError
from ...config import JournalConfig
from ...journal import FileStore, check_file
from ..link.errors import NoQuorum
from ..link.link import Link
from .durable_log import ClusterLog
from .fenced import Write
from .heads import Head, subject_of
from .mod_log import ModLog, may_be_stored
from .mods_files import FILE, ModsFiles


class ClusterModFiles:
    """A `FileStore`; what mods keep that run on all nodes stays on each node."""

    def __init__(
        self, link: Link, log: ClusterLog, files: Callable[[], ModsFiles], local: FileStore, config: JournalConfig
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
            file = await self._files().put(FILE, log.fenced.mod_id, data)
            await self._change(log, heads, name, Head(name, time.time(), len(data), file))
        await self._files().dropped()
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
            if name not in heads:
                return False
            await self._change(log, heads, name, None)
        await self._files().dropped()
        return True

    async def _opened(self, mod_id: str) -> tuple[ModLog, dict[str, Head]]:
        log = await self._log.of(mod_id)
        try:
            async with asyncio.timeout(self._patience):
                return log, await log.read_heads()
        except TimeoutError:
            text = f"the files of mod {mod_id} could not be read within {self._patience:g} s"
            raise NoQuorum(text) from None

    async def _change(self, log: ModLog, heads: dict[str, Head], name: str, head: Head | None) -> None:
        """Write which file is the newest, unless another node has the mod by now."""
        write = log.fenced.write(log.fenced.put(subject_of(name), None if head is None else list(head)))
        write.done.add_done_callback(partial(self._changed, write, heads, name, head))
        await self._log.until_stored(log, write, f"the file {name!r} of mod {log.fenced.mod_id}")

    def _changed(
        self, write: Write, heads: dict[str, Head], name: str, head: Head | None, done: asyncio.Future[int]
    ) -> None:
        """Take note of what is stored, whether somebody still waits for it or not, and remove what no head names."""
        if done.exception() is not None:
            unnamed = None if may_be_stored(write) else head
        else:
            unnamed = heads.pop(name, None)
            if head is not None:
                heads[name] = head
        if unnamed is not None:
            self._files().drop_soon(unnamed.file)
