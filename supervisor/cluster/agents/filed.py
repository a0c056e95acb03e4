"""Answers between nodes that are too large for a message: they lie in the files of the network, and a message names them."""

from __future__ import annotations

import asyncio
from typing import Any

from ....ipc.messages import pack, unpack
from ..link.errors import Gone, TooLarge
from ..link.link import Link
from ..link.passing import Passing
from ..link.wire import Reply

_FILE = "file"
_KEPT_FOR = 60.0  # seconds until a file is removed that nobody has fetched: who asked may be gone


class FiledAnswers:
    """Gives large answers, and takes them.

    Args:
        what: they are, for the names of their files.
    """

    def __init__(self, link: Link, what: str) -> None:
        self._passing = Passing(link, what)

    async def give(self, reply: Reply, body: Any) -> None:
        """Answer another node. Raises ClusterError: the answer is large, and cannot be kept."""
        try:
            reply(body)
        except TooLarge:
            name = await self._passing.put(pack(body))
            asyncio.get_running_loop().call_later(_KEPT_FOR, self._passing.drop_soon, name)
            reply({_FILE: name})

    async def taken(self, said: Any) -> Any:
        """Return what another node has answered. Raises ClusterError: it cannot be fetched."""
        if type(said) is not dict or said.keys() != {_FILE}:
            return said
        name = said[_FILE]
        packed = await self._passing.get(name)
        if packed is None:
            raise Gone(f"the file '{name}' with the answer is not there any more")
        self._passing.drop_soon(name)
        return unpack(packed)
