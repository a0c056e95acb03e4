"""What a node has of its network: the way to the other nodes, and what the servers keep."""

from __future__ import annotations

from ...config import ClusterConfig
from .buckets import Bucket, bucket_config
from .card import ABOUT, check_card, check_servers
from .files import Files, files_config
from .jetstream import JetStream
from .names import EXPIRING, FILES
from .wire import Wire


class Link(Wire):
    """The connection of one node.

    Attributes:
        jetstream: requests to JetStream with our errors, for streams.
    """

    def __init__(self, config: ClusterConfig, network_id: str, node: str) -> None:
        super().__init__(config, network_id, node)
        self.jetstream = JetStream(self)

    async def check(self) -> None:
        """Make sure that the servers keep things, and that the network there is this one.

        Raises:
            ClusterError: JetStreamOff, ServersTooOld, OtherSecret, OtherProtocol, NotPermitted, NoQuorum.
        """
        await check_servers(self.jetstream)
        await check_card(await self.bucket(ABOUT), self.names.network_id)

    async def bucket(self, name: str) -> Bucket:
        """Return a bucket of the network, made if it is missing."""
        stored, stream = self.names.stored(name), self.names.stream_of_bucket(name)
        await self.jetstream.stream(stream, bucket_config(stored), what=f"make the bucket {stored}")
        return Bucket(self.jetstream, stored, stream, expires=name in EXPIRING)

    async def files(self) -> Files:
        """Return the store of files of the network, made if it is missing."""
        stored = self.names.stored(FILES)
        await self.jetstream.stream(f"OBJ_{stored}", files_config(stored), what=f"make the store of files {stored}")
        return Files(self.jetstream, stored)
