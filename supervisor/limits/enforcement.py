"""Apply an incarnation's limits (cgroup, watchdog, rlimits) and report which mechanism enforces
each.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from ..aside import Aside
from ..config import LimitsConfig, ModConfig
from .cgroups import Cgroup, Cgroups
from .oom import OomCheck
from .over_limit import Exceeded
from .watchdog import Take, Watchdog

logger = logging.getLogger("modvisor.enforcement")

LIMITS = ("memory", "memory_soft", "disk", "cpu", "cpu_seconds", "open_files", "processes", "threads")
"""The keys of a mod's limits that the system enforces, in the order of the manual."""


class Enforcement:
    """The means of a whole network: its cgroups and its watchdog.

    Args:
        network_id, cgroups: keys of the network file.
        take: see `Watchdog`.
    """

    def __init__(self, network_id: str, cgroups: bool, take: Take) -> None:
        self._network_id = network_id
        self._allowed = cgroups
        self.cgroups = Cgroups()
        self.watchdog = Watchdog(take, lambda: self.cgroups.cpu_seconds())
        self._gone: asyncio.Queue[Cgroup] = asyncio.Queue()
        self._thread = Aside(1, "cgroups")

    def open(self) -> None:
        """Claim a subtree of cgroups, before the first `prepare`.

        Takes some ms: call it in a thread.
        """
        self.cgroups = Cgroups.open(self._network_id, self._allowed)
        if self.cgroups.reason is not None:
            logger.debug("limits: %s; see `modvisor doctor`", self.cgroups.reason)

    def close(self) -> None:
        """Remove the subtree after every worker has ended. Call it in a thread."""
        self.cgroups.close()

    async def run(self) -> None:
        """Watch, and remove the cgroups of incarnations that ended, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.watchdog.run, name="watchdog")
            try:
                while True:
                    cgroup = await self._gone.get()
                    await self._thread.run(cgroup.remove)
            finally:
                self._thread.close()

    def prepare(self, config: ModConfig, number: int, storage: Path, cgroup: Cgroup | None = None) -> LimitsInForce:
        """Prepare the limits of incarnation ``number`` of a mod before its process loads anything.

        Args:
            cgroup: the cgroup that its process is in already; None: one is made.
        """
        if cgroup is None:
            cgroup = self.cgroups.create(f"{config.mod_id}.{number}", config.limits)
        else:
            self.cgroups.write_limits(cgroup, config.limits)
        return LimitsInForce(self, config, number, storage, cgroup)

    def gone(self, cgroup: Cgroup) -> None:
        """Remove a cgroup soon: its incarnation has ended."""
        self._gone.put_nowait(cgroup)


@dataclass(eq=False, slots=True)
class LimitsInForce:
    """The limits of one incarnation.

    Call `started` when its process runs, and `ended` when the process is reaped or failed to start.
    """

    owner: Enforcement
    config: ModConfig
    number: int
    storage: Path
    cgroup: Cgroup | None
    oom: OomCheck = field(init=False)
    pid: int | None = None

    def __post_init__(self) -> None:
        self.oom = OomCheck(self.cgroup)

    def worker_limits(self) -> dict[str, Any]:
        """Return the ``limits`` of the `load` request, which `modvisor.worker.limits.apply`
        sets.
        """
        limits = self.config.limits
        counted = self.cgroup is not None and "threads" in self.cgroup.enforced
        return {
            "memory": limits.memory,
            "cpu_seconds": limits.cpu_seconds,
            "open_files": limits.open_files,
            "disk": limits.disk,
            "tasks": None if counted else limits.threads,
            "stacks": limits.concurrency,
        }

    async def started(
        self, pid: int, on_exceeded: Callable[[str, int, Exceeded], None], *, in_cgroup: bool = False
    ) -> None:
        """Watch the process, and move it into its cgroup. Call it before the worker loads anything.

        Args:
            in_cgroup: the process was started in its cgroup.
        """
        self.pid = pid
        self.owner.watchdog.watch(
            self.config.mod_id, self.number, pid, self.config.limits, on_exceeded,
            cgroup=self.cgroup, storage=self.storage,
        )  # fmt: skip
        if self.cgroup is not None and not in_cgroup:
            await anyio.to_thread.run_sync(self.cgroup.add, pid)

    def ended(self) -> None:
        """Stop watching. The cgroup is removed as soon as its last process has left it."""
        if self.pid is not None:
            self.owner.watchdog.unwatch(self.pid)
        if self.cgroup is not None:
            self.owner.gone(self.cgroup)


def limits_stats(
    limits: LimitsConfig, enforced: Mapping[str, str], cgroup: Cgroup | None
) -> dict[str, dict[str, float | str | None]]:
    """Return each limit of a mod and what enforces it.

    Example: ``{"memory": {"limit": 500000000, "enforced_by": "watchdog, …"}, …}``.

    Args:
        enforced: what the worker reported in its manifest.
        cgroup: the incarnation's.
    """
    by = enforced_by(enforced, cgroup.enforced if cgroup is not None else {})
    return {
        key: {"limit": getattr(limits, key), "enforced_by": by[key] if getattr(limits, key) is not None else None}
        for key in LIMITS
    }


def enforced_by(rlimits: Mapping[str, str], groups: Mapping[str, str]) -> dict[str, str | None]:
    """Return what enforces each limit; None if nothing does.

    The watchdog stands behind the other means.

    Args:
        rlimits: what the worker enforces itself.
        groups: what its cgroup enforces.
    """
    put_back = "SCHED_IDLE" if sys.platform == "linux" else None
    return {
        "memory": _joined(groups.get("memory"), "watchdog", _each(rlimits.get("memory"), "process")),
        "memory_soft": _joined("watchdog", groups.get("memory_soft")),
        "disk": _joined("watchdog", _each(rlimits.get("disk"), "file")),
        "cpu": groups.get("cpu") or put_back,
        "cpu_seconds": _each(rlimits.get("cpu_seconds"), "process"),
        "open_files": _each(rlimits.get("open_files"), "process"),
        "processes": "watchdog",
        "threads": _joined(groups.get("threads"), rlimits.get("tasks"), "watchdog"),
    }


def _each(means: str | None, what: str) -> str | None:
    return None if means is None else f"{means} of each {what}"


def _joined(*means: str | None) -> str:
    return ", ".join(each for each in means if each is not None)
