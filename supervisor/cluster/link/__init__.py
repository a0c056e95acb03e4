"""The way of a node to its servers and to the other nodes, and what the servers keep: buckets, files, streams.

May import: nothing else of the cluster. Only here is nats-py known.
Never: knows mods, agents or events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...faces import lazily

if TYPE_CHECKING:
    from .buckets import Bucket, Entry, Watch
    from .errors import (
        ClusterError,
        Foreign,
        Gone,
        JetStreamOff,
        LinkDown,
        Nobody,
        NoQuorum,
        NotNats,
        NotPermitted,
        OtherProtocol,
        OtherSecret,
        OutOfSpace,
        Refused,
        ServersTooOld,
        Taken,
        TlsFailed,
        TooLarge,
        Unreachable,
        WrongCredentials,
    )
    from .files import Files
    from .link import Link
    from .names import MIN_PROTOCOL, PROTOCOL, Names, text_of, token
    from .seal import NotSealed, Seal
    from .wire import Reply, Served
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        buckets="Bucket Entry Watch",
        errors="ClusterError Foreign Gone JetStreamOff LinkDown Nobody NoQuorum NotNats NotPermitted OtherProtocol OtherSecret "
        "OutOfSpace Refused ServersTooOld Taken TlsFailed TooLarge Unreachable WrongCredentials",
        files="Files",
        link="Link",
        names="MIN_PROTOCOL Names PROTOCOL text_of token",
        seal="NotSealed Seal",
        wire="Reply Served",
    )
