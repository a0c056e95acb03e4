"""Bodies that are too large for a message of the servers: they lie in the files of the network, and a message names them."""

from __future__ import annotations

from ....ipc.errors import FrameTooLarge
from ..link.link import Link
from ..link.passing import Passing
from ..link.seal import NotSealed
from .frames import BadFrame

SPARE = 4096
"""Bytes of a message that are left for what surrounds an event or an answer."""


class Large:
    """Carries large bodies of one node.

    Attributes:
        drop: removes a file that nobody needs any more, later.
        carried: how many bodies went by a file.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._passing = Passing(link, "passing")
        self.drop = self._passing.drop_soon
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
        name = await self._passing.put(packed)
        self.carried += 1
        return name

    async def take(self, name: str) -> bytes:
        """Return a large body. Raises ClusterError, BadFrame."""
        try:
            packed = await self._passing.get(name)
        except NotSealed as error:
            raise BadFrame(f"a large message cannot be read: {error}") from None
        if packed is None:
            raise BadFrame("a large message is not in the files of the network any more")
        return packed
