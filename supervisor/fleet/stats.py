"""Numbers for people and programs: what each mod uses and does, read from counters and the newest samples.

Sampling runs in a thread, all workers at once; reading stats touches memory only.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import anyio.to_thread

from ..lifecycle import Keeper, State
from ..limits import ProcessSample, limits_stats, make_sampler
from ..process import CrashReport
from .workers import Mod

logger = logging.getLogger("modvisor.stats")


class ResourceMonitor:
    """The newest samples of the workers' processes: the network's watchdog takes them, or whoever asks for fresh ones.

    Args:
        pids: tells the workers of the moment.
    """

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self._pids = pids
        self._sampler = make_sampler()
        self._sampling = threading.Lock()  # a watchdog and somebody who asks for fresh figures: one after the other
        self._samples: dict[int, ProcessSample] = {}

    async def sample(self) -> None:
        """Take one sample of every worker now."""
        pids = [*self._pids(), os.getpid()]
        try:
            await anyio.to_thread.run_sync(self.take, pids)
        except OSError as error:  # out of descriptors, say: the last figures stand
            logger.warning("no resource samples this time: %s", error)

    def take(
        self, pids: Iterable[int], members: Mapping[int, Iterable[int]] = MappingProxyType({})
    ) -> Mapping[int, ProcessSample]:
        """Sample the trees of ``pids`` and this process; see `Sampler.sample`. Any thread may call it."""
        with self._sampling:
            self._samples = self._sampler.sample([*pids, os.getpid()], members)
            return self._samples

    def of(self, pid: int) -> ProcessSample | None:
        return self._samples.get(pid)


def mod_stats(mod: Mod, monitor: ResourceMonitor) -> dict[str, Any]:
    """One mod: identity, resources, traffic, restarts. Times in seconds, sizes in bytes, latency in milliseconds.

    Of one with several workers: sums, and under ``workers`` the same of each.
    """
    if isinstance(mod, Keeper):
        return _worker_stats(mod, monitor)
    workers = [_worker_stats(keeper, monitor) for keeper in mod.keepers]
    counters = mod.counters
    traffic = _sums(worker["traffic"] for worker in workers)
    traffic |= {
        "latency_p50_ms": _milliseconds(counters.latency.quantile(0.5)),
        "latency_p99_ms": _milliseconds(counters.latency.quantile(0.99)),
    }
    down = next((worker for worker in workers if worker["state"] != str(State.READY)), workers[0])
    return {
        **down,
        "mod_id": mod.mod_id,
        "pid": None,
        "partition_by": mod.config.partition_by,
        "resources": {
            **_sums(worker["resources"] for worker in workers),
            "sampled_at": workers[0]["resources"]["sampled_at"],
        },
        "traffic": traffic,
        "restarts": counters.restarts,
        "recycled": counters.recycled,
        "rollbacks": counters.rollbacks,
        "crashes": sum(worker["crashes"] for worker in workers),
        "log_write_errors": sum(worker["log_write_errors"] for worker in workers),
        "workers": workers,
    }


def _sums(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Of each figure that any of ``parts`` has."""
    total: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = value if total.get(name) is None else total[name] + (value or 0)
    return total


def _worker_stats(keeper: Keeper, monitor: ResourceMonitor) -> dict[str, Any]:
    incarnation, counters, manifest = keeper.incarnation, keeper.counters, keeper.manifest
    sample = monitor.of(incarnation.pid) if incarnation is not None else None
    return {
        "mod_id": keeper.mod_id,
        "mod_path": keeper.config.path,
        "version": manifest.version if manifest is not None else None,
        "patterns": list(manifest.patterns) if manifest is not None else [],
        "observes": list(manifest.observes) if manifest is not None else [],
        "state": str(keeper.state),
        "pid": incarnation.pid if incarnation is not None else None,
        "incarnation": incarnation.number if incarnation is not None else None,
        "uptime": round(incarnation.uptime, 3) if incarnation is not None else None,
        "loaded_at": keeper.loaded_at,
        "start_ms": keeper.start_ms,
        "last_error": keeper.last_error,
        "requires": list(map(str, keeper.config.requires)),
        "optional": list(map(str, keeper.config.optional)),
        "dependency": keeper.config.dependency,
        "resources": resource_stats(sample),
        "limits": limits_stats(
            keeper.config.limits,
            manifest.enforced if manifest is not None else {},
            incarnation.limits_in_force.cgroup if incarnation is not None else None,
        ),
        "traffic": {
            "events_in": counters.events_in,
            "answered": counters.answered,
            "passed": counters.passed,
            "failed": counters.failed,
            "timeouts": counters.timeouts,
            "overloaded": counters.overloaded,
            "redelivered": counters.redelivered,
            "dead_lettered": counters.dead_lettered,
            "events_out": counters.events_out,
            "observed": counters.observed,
            "observe_dropped": counters.observe_dropped,
            "in_flight": keeper.caller.in_flight_count,
            "queue_depth": keeper.caller.depth,
            "durable_under_way": len(keeper.durable),
            "observe_queue_depth": len(keeper.copies),
            "latency_p50_ms": _milliseconds(counters.latency.quantile(0.5)),
            "latency_p99_ms": _milliseconds(counters.latency.quantile(0.99)),
        },
        "restarts": counters.restarts,
        "recycled": counters.recycled,
        "rollbacks": counters.rollbacks,
        "last_rollback": keeper.last_rollback,
        "on_probation_after": keeper.probation.version if keeper.probation is not None else None,
        "quarantined": keeper.quarantined,
        "crashes": keeper.crashes.total,
        "last_crash": _crash_in_short(keeper.crashes.last),
        "log_write_errors": keeper.log.write_errors,
    }


def resource_stats(sample: ProcessSample | None) -> dict[str, Any]:
    """A process sample as plain data; every figure None before the first sample."""
    names = (
        "cpu_percent",
        "rss",
        "uss",
        "threads",
        "open_files",
        "read_bytes",
        "write_bytes",
        "children",
        "sampled_at",
    )
    return {name: getattr(sample, name, None) for name in names}


def _crash_in_short(report: CrashReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    return {"at": report.at, "cause": str(report.cause), "detail": report.detail, "uptime": report.uptime}


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
