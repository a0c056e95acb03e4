"""Answers between nodes that are too large for a message: they lie in the files of the network, and a message names them."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import Any

from ....ipc.errors import ModvisorError
from ....ipc.messages import pack, unpack
from ..link.errors import Gone, TooLarge
from ..link.files import Files
from ..link.link import Link
from ..link.wire import Reply

logger = logging.getLogger("modvisor.cluster")

_FILE = "file"
_KEPT_FOR = 60.0  # seconds until a file is removed that nobody has fetched: who asked may be gone


class FiledAnswers:
    """Gives large answers, and takes them.

    Args:
        what: they are, for the names of their files.
    """

    def __init__(self, link: Link, what: str) -> None:
        self._link, self._what = link, what
        self._numbers = itertools.count(1)
        self._files: Files | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def give(self, reply: Reply, body: Any) -> None:
        """Answer another node. Raises ClusterError: the answer is large, and cannot be kept."""
        try:
            reply(body)
        except TooLarge:
            name = f"{self._what}/{self._link.instance}/{next(self._numbers)}"
            await (await self._store()).put(name, pack(body))
            asyncio.get_running_loop().call_later(_KEPT_FOR, self._drop_soon, name)
            reply({_FILE: name})

    async def taken(self, said: Any) -> Any:
        """Return what another node has answered. Raises ClusterError: it cannot be fetched."""
        if type(said) is not dict or said.keys() != {_FILE}:
            return said
        name = said[_FILE]
        packed = await (await self._store()).get(name)
        if packed is None:
            raise Gone(f"the file '{name}' with the answer is not there any more")
        self._drop_soon(name)
        return unpack(packed)

    def _drop_soon(self, name: str) -> None:
        self._tasks.add(task := asyncio.get_running_loop().create_task(self._drop(name)))
        task.add_done_callback(self._tasks.discard)

    async def _drop(self, name: str) -> None:
        try:
            await (await self._store()).drop(name)
        except ModvisorError as error:
            logger.info("file %s stays in the store: %s", name, error)

    async def _store(self) -> Files:
        if self._files is None:
            self._files = await self._link.files()
        return self._files
