"""A share for each source, where many sources fill one bounded room. Pure.

One source alone may fill the room. The others have as much room again, of which each takes no more
than it leaves over (dynamic thresholds: Choudhury and Hahne, 1998). So whatever others send, the
next source finds room as soon as anything leaves, and never more than twice the room is taken.
"""

from __future__ import annotations

from ..ipc.address import SYSTEM
from ..ipc.event import Event


def has_share(mine: int, total: int, size: int, most: int) -> bool:
    """Return whether a source may put one thing more into a room.

    Args:
        mine: what the source has there already.
        total: what all sources have there together.
        size: what the thing takes.
        most: what one source may fill.
    """
    return mine + size <= most and mine <= 2 * most - total - size


def source_of(event: Event) -> str:
    """Return whose share an event takes.

    The worker that sent it counts, whatever name the event speaks in.
    """
    return event.via or str(event.source or f"{SYSTEM}:{SYSTEM}")
