"""The records of ``/live``, made of the stats of a network that has no such route."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client


def poll(client: Client, interval: float) -> Iterator[dict[str, Any]]:
    """Yield a record per interval, each with everything. Raises `CliError` as `Client.get` does."""
    before: Mapping[str, int] = {}
    last = time.monotonic()
    while True:
        stats = client.get("/stats")
        now = time.monotonic()
        counts = _counts(stats)
        rates = {key: (counts[key] - before[key]) / (now - last) for key in counts.keys() & before.keys()}
        yield record(stats, rates)
        before, last = counts, now
        time.sleep(interval)


def _counts(stats: dict[str, Any]) -> dict[str, int]:
    """Return the counts that rates are made of, by mod; those of the network under ""."""
    return {"": (stats.get("events") or {}).get("processed", 0)} | {
        mod_id: mod["traffic"]["events_in"] for mod_id, mod in stats["mods"].items()
    }


def record(stats: dict[str, Any], rates: Mapping[str, float]) -> dict[str, Any]:
    """Return stats as a record of ``/live``.

    Args:
        rates: events per second by mod; that of the network under "". Empty: not known yet.
    """
    mods = [_row(mod, rates.get(mod_id)) for mod_id, mod in stats["mods"].items()]
    return {"type": "all", "at": time.time(), "network": _network(stats, rates.get("")), "mods": mods, "edges": []}


def _network(stats: dict[str, Any], rate: float | None) -> dict[str, Any]:
    journal = stats.get("journal") or {}
    return {
        "name": stats.get("network_name"),
        "version": None,
        "uptime_seconds": stats.get("uptime_seconds"),
        "is_running": stats.get("is_running"),
        "agents": stats.get("agent_count"),
        "channels": stats.get("channel_count"),
        "events": stats.get("events") or {},
        "events_per_second": rate,
        "supervisor": stats.get("supervisor") or {},
        "journal": journal,
        "dead_letters": journal.get("dead_letters"),
    }


def _row(mod: dict[str, Any], rate: float | None) -> dict[str, Any]:
    resources, traffic, limits = mod.get("resources") or {}, mod["traffic"], mod.get("limits") or {}
    return {
        "id": mod["mod_id"],
        "path": mod.get("mod_path"),
        "version": mod.get("version"),
        "state": mod.get("state"),
        "uptime": mod.get("uptime"),
        "restarts": mod.get("restarts"),
        "pid": mod.get("pid"),
        "workers": len(mod.get("workers") or (mod,)),
        "cpu": resources.get("cpu_percent"),
        "cpu_limit": _cpu_limit(limits),
        "rss": resources.get("rss"),
        "memory_limit": (limits.get("memory") or {}).get("limit"),
        "rate": rate,
        "p50": traffic.get("latency_p50_ms"),
        "p99": traffic.get("latency_p99_ms"),
        "in_flight": traffic.get("in_flight"),
        "queue": traffic.get("queue_depth"),
        "failed": traffic.get("failed"),
        "dead_letters": traffic.get("dead_lettered"),
        "family": mod.get("family"),
        "audience": mod.get("reaches"),
        "problem": mod.get("quarantined") or mod.get("last_error"),
    }


def _cpu_limit(limits: dict[str, Any]) -> float | None:
    """Return the limit of processor time in percent of a core, as samples have it."""
    cores = (limits.get("cpu") or {}).get("limit")
    return None if cores is None else cores * 100
