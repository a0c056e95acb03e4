"""The mark of a move: while a network's state is on its way, or has left the cluster, no node may serve it.

A move writes the mark, then looks whether a node is there. A node begins its session, then looks for
the mark. So one of the two sees the other.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from ....ipc.errors import Code, ModvisorError
from ..link.buckets import Bucket
from ..link.link import Link

STATE = "state"
KEY = "moved"
IMPORT, EXPORT = "import", "export"


@dataclass(frozen=True, slots=True)
class Mark:
    """A move.

    Attributes:
        do: ``import`` or ``export``.
        where: the state directory and its machine.
        at: Unix seconds.
        is_done: of an export: the state is there now, and what the cluster has of it is old.
    """

    do: str
    where: str
    at: float
    is_done: bool = False

    def to_plain(self) -> dict[str, Any]:
        return {"do": self.do, "where": self.where, "at": self.at, "done": self.is_done}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Mark:
        return cls(str(data["do"]), str(data["where"]), float(data["at"]), bool(data["done"]))

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        if self.is_done:
            return f"the state of this network was moved to {self.where} ({when})"
        return f"'modvisor cluster {self.do}' of {self.where} began {when} and has not ended"

    @property
    def next_step(self) -> str:
        if self.is_done:
            return "run it there, without 'cluster', or move the state back with 'modvisor cluster import'"
        return "run that command again: it goes on"


async def read_mark(bucket: Bucket) -> Mark | None:
    """Return the mark of a move, or None. Raises ClusterError."""
    found = await bucket.get(KEY)
    return None if found is None else Mark.of(found.value)


async def check_not_moving(link: Link) -> None:
    """Make sure that a node may serve the network.

    Raises:
        ModvisorError: start_failed: its state is on its way, or elsewhere.
        ClusterError: the servers do not say.
    """
    mark = await read_mark(await link.bucket(STATE))
    if mark is not None:
        raise ModvisorError(f"{mark}: {mark.next_step}", code=Code.START_FAILED)
