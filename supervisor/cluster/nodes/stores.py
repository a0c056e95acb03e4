"""What the servers keep for a network: in how many copies each store is, and which copies are behind."""

from __future__ import annotations

import asyncio
from typing import Any

from ....ipc.errors import ModvisorError
from ..link.link import Link

NANOSECONDS = 1e9
UNHEARD = 3.0  # seconds; a leader hears of each copy once a second


async def stores(link: Link) -> list[dict[str, Any]]:
    """Return each store of the network as its leader tells of it; see `told`."""
    streams = {stream.partition(link.names.stored(""))[2]: stream for stream in link.jetstream.streams}
    return list(await asyncio.gather(*(_store(link, name, stream) for name, stream in sorted(streams.items()))))


async def _store(link: Link, name: str, stream: str) -> dict[str, Any]:
    try:
        found = await link.jetstream.request(f"STREAM.INFO.{stream}", what=f"read the stream {stream}")
    except ModvisorError as error:
        return {"store": name, "copies": 0, "wanted": 0, "leader": None, "bytes": 0, "behind": [], "error": str(error)}
    return told(name, found)


def told(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return a store from what JetStream says of its stream. Pure.

    ``copies``: how many servers have all of it; ``wanted``: how many shall; ``behind``: the other servers,
    each with ``lag`` (changes that it lacks), ``is_offline`` and ``seen_ago`` (seconds).
    """
    cluster, wanted = found.get("cluster") or {}, found["config"]["num_replicas"]
    others = cluster.get("replicas") or ()
    behind = [
        {
            "server": each["name"],
            "lag": each.get("lag", 0),
            "is_offline": bool(each.get("offline")),
            "seen_ago": round(each.get("active", 0) / NANOSECONDS, 1),
        }
        for each in others
        if each.get("offline") or not each.get("current") or each.get("active", 0) > UNHEARD * NANOSECONDS
    ]
    has_leader = not cluster or bool(cluster.get("leader"))
    return {
        "store": name,
        "copies": has_leader + len(others) - len(behind),
        "wanted": wanted,
        "leader": cluster.get("leader"),
        "bytes": found["state"]["bytes"],
        "behind": behind,
        "error": None if has_leader else "it has no leader now",
    }
