"""Moves what is kept of mods from one to another in atomic batches, while no other node has any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .fenced import Put
from .mod_log import ModLog

EVENTS_AT_ONCE, BYTES_AT_ONCE = 200, 2 * 1024 * 1024
"""Of one batch, which has two messages for each event."""


def batches(moved: Iterable[Iterable[Put]], puts: list[Put]) -> Iterator[list[Put]]:
    """Divide messages into batches, the first of which begins with ``puts``. What moves one event stays together."""
    for each in moved:
        if len(puts) >= 2 * EVENTS_AT_ONCE or sum(len(put.data) for put in puts) >= BYTES_AT_ONCE:
            yield puts
            puts = []
        puts += each
    if puts:
        yield puts


async def store_together(first: ModLog, others: Iterable[ModLog], puts: list[Put]) -> None:
    """Store messages of several mods in one step. The caller holds the lock of the first one's fence.

    Raises:
        Conflict: another node has one of them by now. ModvisorError: mod_away.
    """
    others = list(others)
    fences = [each.fenced.fence_put(each.fenced.fence.seq) for each in others]
    seq = await first.fenced.write_now([*puts, *fences])
    for place, each in enumerate(others, seq + len(puts)):
        each.fenced.fence = each.fenced.fence._replace(seq=place)
