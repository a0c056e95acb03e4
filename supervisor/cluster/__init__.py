"""One network on many machines, over NATS with JetStream.

May import: the rooms below it and `ipc`. Its own rooms, from the ground up: `link`, `nodes`, `mods`, `events`, `kept`,
`agents`, `gateway.py`, and `cluster.py`, which puts them together.
Never: is imported without the key `cluster`. Nothing of nats-py leaves the room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .cluster import Cluster
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(__name__, cluster="Cluster")
