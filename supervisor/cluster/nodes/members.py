"""Who is in the network: the nodes with a session, as each tells of itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..link.buckets import Bucket, Watch
from ..link.names import text_of

logger = logging.getLogger("modvisor.cluster")


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """One node that holds a session.

    Attributes:
        instance: random, new with each run of the node.
        session: its session, see `Session.id`. A claim that names it is good as long as the node is here.
        value: all that the node tells of itself.
    """

    node: str
    instance: str
    session: str
    labels: tuple[str, ...]
    version: str
    value: dict[str, Any]

    @classmethod
    def of(cls, node: str, value: dict[str, Any], revision: int) -> NodeInfo:
        """Read a session's key. The first write of a session cannot name it: its own revision does."""
        session = value.get("session") or session_id(node, revision)
        return cls(node, value["instance"], session, tuple(value["labels"]), value["version"], value)


def session_id(node: str, revision: int) -> str:
    return f"{node}/{revision}"


class Members:
    """The nodes that are there, mirrored by a watch.

    Attributes:
        nodes: by name, this node among them.
        listeners: called after each change that somebody outside may care for.
    """

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self.listeners: list[Callable[[], None]] = []
        self._watch: Watch | None = None

    async def open(self, bucket: Bucket) -> None:
        """Follow the bucket of sessions. Returns when all who are there are known."""
        self._watch = await bucket.mirror("", self._told)

    async def close(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.close()

    @property
    def is_blind(self) -> bool:
        """Whether the bucket of sessions cannot be followed now."""
        return self._watch is None or bool(self._watch.problem)

    def tell(self) -> None:
        told_each(self.listeners)

    def _told(self, key: str, value: Any | None, revision: int) -> None:
        node = text_of(key)
        before = self.nodes.get(node)
        if value is None:
            self.nodes.pop(node, None)
        else:
            self.nodes[node] = NodeInfo.of(node, value, revision)
        if not _is_renewal(before, self.nodes.get(node)):
            self.tell()


def told_each(listeners: Iterable[Callable[..., None]], *what: Any) -> None:
    """Call listeners. One that raises keeps the news from no other listener, and does not end who tells it."""
    for listener in list(listeners):
        try:
            listener(*what)
        except Exception:
            logger.exception("a change was not followed by all that should")


def _is_renewal(before: NodeInfo | None, now: NodeInfo | None) -> bool:
    """Return whether nothing changed but the number of the renewal."""
    if before is None or now is None or before.session != now.session:
        return False
    return {**before.value, **_UNTOLD} == {**now.value, **_UNTOLD}


_UNTOLD = {"renewal": 0, "session": None}
