"""Runs the mirrors of a small cluster and counts beside the model."""

from __future__ import annotations

from dataclasses import dataclass

from .entries import KINDS
from .measuring import Mirror, served, written
from .model import Constants, Size


@dataclass(frozen=True, slots=True)
class Checked:
    """What a small cluster took, and what the model says of it."""

    size: Size
    counted_join: float
    predicted_join: float
    counted_bytes: float
    predicted_bytes: float
    counted_messages: int
    predicted_messages: float


async def checked(size: Size, constants: Constants) -> Checked:
    """Fill the buckets of a small cluster, have each node mirror them, change some, and count."""
    async with served() as (server, linked):
        writer = await linked("writer")
        buckets = {kind: await writer.bucket(bucket) for kind, (bucket, _) in KINDS.items()}
        known = {kind: dict[int, int]() for kind in KINDS}
        for kind, count in size.held().items():
            await written(buckets[kind], kind, range(count), known[kind])
        links = [await linked(f"node-{number}") for number in range(size.nodes)]
        before = server.counted()
        mirrors = {
            kind: [await Mirror().open(await link.bucket(KINDS[kind][0]), kind) for link in links] for kind in KINDS
        }
        joined = server.counted()
        changed = {kind: max(1, round(rate)) for kind, rate in size.per_second().items()}
        for kind, count in changed.items():
            await written(buckets[kind], kind, range(count), known[kind])
            for mirror in mirrors[kind]:
                await mirror.until(size.held()[kind] + count)
        done = server.counted()
    entries, held, acks = constants.entries, size.held(), sum(changed.values())
    return Checked(
        size,
        counted_join=joined[1] - before[1],
        predicted_join=size.nodes * sum(count * entries[kind].watched for kind, count in held.items()),
        counted_bytes=done[1] - joined[1],
        predicted_bytes=size.nodes * sum(count * entries[kind].watched for kind, count in changed.items()),
        counted_messages=done[2] - joined[2] - acks,  # the writer is told of each write, too
        predicted_messages=size.nodes * acks,
    )
