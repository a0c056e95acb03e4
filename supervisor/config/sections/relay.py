"""Bounds of the relays through which mods in a cell reach their hosts."""

from __future__ import annotations

from dataclasses import dataclass

from ..values.basic import duration, whole
from ..values.keys import key


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """Bounds of the relay of one worker. Times in seconds."""

    connections: int = key(
        64, whole(1, 4096), "connections of one mod's process at once, two descriptors each; further ones wait"
    )
    connect_timeout: float = key(
        15.0, duration(), "for a connection's request, the look-up of its host, and the connecting"
    )
    idle_timeout: float = key(600.0, duration(), "how long a connection may be silent in both directions")
