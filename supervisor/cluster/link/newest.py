"""Reads the newest message of each subject of a stream, once."""

from __future__ import annotations

from typing import Any

from nats.aio.msg import Msg

from .following import read_once
from .link import Link
from .seal import NotSealed

Newest = dict[str, tuple[Any, int]]
"""Body and number by subject. A subject whose newest message is empty is left out."""


async def newest_of(link: Link, stream: str, subjects: str) -> tuple[Newest, int]:
    """Return what a stream has, and how many messages no node of this network wrote. Raises ClusterError."""
    reader = _Reader(link)
    await read_once(link.jetstream, stream, subjects, reader, first="last_per_subject")
    return reader.found, reader.dropped


class _Reader:
    def __init__(self, link: Link) -> None:
        self._link = link
        self.found: Newest = {}
        self.dropped = 0

    def begun(self, is_fresh: bool) -> None:
        if is_fresh:
            self.found.clear()

    def received(self, message: Msg, seq: int) -> None:
        self.found.pop(message.subject, None)
        if not message.data:
            return
        try:
            body = self._link.seal.opened(message.data, message.subject.encode())
        except NotSealed:
            self.dropped += 1
        else:
            self.found[message.subject] = body, seq

    def complete(self) -> None: ...
