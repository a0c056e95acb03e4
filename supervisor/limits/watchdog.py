"""Runs the watches of a network: looks at every mod's process tree and reports what is over a
limit.

The watchdog kills nobody; whoever it reports to decides. `over_limit.Watch` decides what is over a
limit. Here is when to look:

- every few seconds at all trees, and more often while one of them is near a limit;
- at once when a tripwire says that the whole machine has gained tasks or lost memory. Tripwires are
  cheap, so a fork bomb or a leak is seen after about 0.1 s, and mods that behave cost nothing;
- every 10 s into a mod's storage folder, and earlier when the mod has written much.

One thread looks at processes. Another one looks into folders, because a large folder takes long.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from pathlib import Path

import anyio
import anyio.to_thread

from ..config import LimitsConfig
from ..process import reserve
from .cgroups import Cgroup
from .greed import FEW, Together
from .over_limit import Exceeded, Watch
from .samples import ProcessSample
from .tripwires import Tripwires
from .watched_tree import WatchedTree

logger = logging.getLogger("modvisor.watchdog")

SAMPLE_INTERVAL = 2.0
"""Seconds between two passes over all trees."""

NEAR_INTERVAL = 0.25
"""Seconds between two passes while a tree is near one of its limits."""

TRIPWIRE_INTERVAL = 0.05
"""Seconds between two looks at the tripwires."""

GREED_INTERVAL = 0.1
"""Seconds between two looks at what each mod computes, while the machine is crowded."""

# The largest share of the time that passes may take: a pass that takes long is followed by a pause.
SAMPLE_SHARE = 1 / 400  # with 200 mods the passes are 4 s apart
NEAR_SHARE = 1 / 20
GREED_SHARE = 1 / 50
TRIPPED_SHARE = 1 / 2

YOUNG_INTERVAL = 0.6
"""Seconds between two passes while a worker is young."""

LONGEST_PAUSE = 4.0
"""Seconds between two passes at most, however long a pass takes. `doctor` promises as much."""

YOUNG = 2.0
"""Seconds within which a new worker has its figures: it is sampled as often as one near a limit.
The CPU figure takes two samples."""

Take = Callable[[Iterable[int], Mapping[int, Iterable[int]]], Mapping[int, ProcessSample]]


def pause_after(took: float, *, near: bool, young: bool) -> float:
    """Return the seconds from a pass that took so long to the next one.

    Args:
        near: a tree is near one of its limits.
        young: a worker is new.
    """
    if near:
        pause = max(NEAR_INTERVAL, took / NEAR_SHARE)
    elif young:
        pause = max(YOUNG_INTERVAL, took / TRIPPED_SHARE)
    else:
        pause = max(SAMPLE_INTERVAL, took / SAMPLE_SHARE)
    return min(pause, LONGEST_PAUSE)


class Watchdog:
    """Watches the process trees of a network.

    Args:
        take: samples the trees of workers, given their pids and the processes known to belong to
            each (`ResourceMonitor.take`). Called in a thread. Raises OSError when the process table
            cannot be read this time.
        used_by_all: returns the seconds of processor that all trees have used until now, or more;
            None where nobody knows.

    Attributes:
        passes: how often all trees were sampled.
        looks: how often the tripwires were read.
    """

    def __init__(self, take: Take, used_by_all: Callable[[], float | None] = lambda: None) -> None:
        self._take = take
        self._used_by_all = used_by_all
        self._together = Together()
        self._yielding: list[WatchedTree] = []  # trees whose share is small; only the watching thread touches it
        self._least_limit = math.inf  # the smallest `cpu_yield` of all trees, or less
        self._lock = threading.Lock()  # guards `_watched`
        self._watched: dict[int, WatchedTree] = {}
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = Context()
        self._greed_due = -math.inf  # monotonic
        self._young_until = -math.inf  # monotonic: when the newest worker is no longer young
        self.passes = 0
        self.looks = 0

    def watch(
        self,
        mod_id: str,
        number: int,
        pid: int,
        limits: LimitsConfig,
        on_exceeded: Callable[[str, int, Exceeded], None],
        *,
        cgroup: Cgroup | None = None,
        storage: Path | None = None,
    ) -> None:
        """Watch the tree of worker ``pid`` from now on.

        ``on_exceeded`` is called in the loop's thread.
        """
        tree = WatchedTree(mod_id, number, pid, limits, Watch(limits), cgroup, storage, on_exceeded)
        with self._lock:
            self._watched[pid] = tree
            limit = math.inf if limits.cpu_yield is None else limits.cpu_yield
            # A tree without a cgroup is not in what all have used together.
            self._least_limit = min(self._least_limit, 0.0 if cgroup is None else limit)
        self._young_until = time.monotonic() + YOUNG

    def unwatch(self, pid: int) -> None:
        """Stop watching a worker, because it has ended. Nothing is reported about it afterwards."""
        with self._lock:
            self._watched.pop(pid, None)
            if not self._watched:
                self._least_limit = math.inf

    def is_idle(self, pid: int) -> bool:
        """Return whether the worker's tree runs behind all others."""
        tree = self._watched.get(pid)
        return tree is not None and tree.is_idle

    def yields(self, pid: int) -> bool:
        """Return whether the worker's tree has a smaller share of the processor (`limits.cpu_yield`)."""
        tree = self._watched.get(pid)
        return tree is not None and tree.greed.yields

    async def run(self) -> None:
        """Watch until cancelled."""
        self._loop = asyncio.get_running_loop()
        self._context = (
            copy_context()
        )  # a report begins tasks: with sniffio installed, anyio asks the context for the loop
        self._stopping.clear()
        threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for target, name in ((self._watch_trees, "watchdog"), (self._watch_folders, "watchdog-disk"))
        ]
        for thread in threads:
            thread.start()
        try:
            await anyio.sleep_forever()
        finally:
            self._stopping.set()
            with anyio.CancelScope(shield=True):
                for thread in threads:
                    await anyio.to_thread.run_sync(thread.join)

    # -- processes, in a thread

    def _watch_trees(self) -> None:
        tripwires = Tripwires()
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                near = self.sample_all()
                tripwires.rearm()
                self._pause(tripwires, near, took=time.monotonic() - began)
        finally:
            tripwires.close()

    def _pause(self, tripwires: Tripwires, near: bool, took: float) -> None:
        """Wait until the next pass is due, or a tripwire is touched."""
        now = time.monotonic()
        interval = pause_after(took, near=near, young=now < self._young_until)
        due, earliest = now + interval, now + took / TRIPPED_SHARE
        while now < due:
            if self._stopping.wait(min(TRIPWIRE_INTERVAL, due - now)):
                return
            now = time.monotonic()
            self.looks += 1
            if now < self._young_until:  # a worker was started meanwhile
                due = min(due, now + YOUNG_INTERVAL)
            if not self._watched:
                continue
            if now >= self._greed_due:
                self.judge_greed(tripwires.crowded())
            if now >= earliest and tripwires.touched():
                return

    def sample_all(self) -> bool:
        """Sample every tree once and act on it. Return whether one of them is near a limit.

        Blocks: call it in a thread.
        """
        self.passes += 1
        trees = self._trees()
        reserve.refill()
        try:
            return reserve.with_spare(lambda: self._sample(trees))
        except OSError as error:  # the reserve is used up
            logger.warning("the processes of the mods could not be sampled; the next pass tries again: %s", error)
            return False

    def judge_greed(self, crowded: bool) -> None:
        """Give mods that compute while others wait a smaller share of the processor, or the usual one again.

        Looks at each mod if the machine is crowded and one of them may be greedy, otherwise at
        those whose share is small.
        """
        began = time.monotonic()
        look_at_each = crowded and (len(self._watched) <= FEW or self._may_be_greedy(began))
        trees = self._trees() if look_at_each else [each for each in self._yielding if self._is_watched(each)]
        for tree in trees:
            tree.judge_greed(time.monotonic())
        self._yielding = [tree for tree in trees if tree.greed.yields]
        took = time.monotonic() - began
        self._greed_due = began + max(GREED_INTERVAL, took / GREED_SHARE)

    def _may_be_greedy(self, now: float) -> bool:
        used = self._used_by_all() if self._least_limit else None
        return used is None or self._together.may_be_greedy(now, used, self._least_limit)

    def _is_watched(self, tree: WatchedTree) -> bool:
        return self._watched.get(tree.pid) is tree

    def _trees(self) -> list[WatchedTree]:
        with self._lock:
            return list(self._watched.values())

    def _sample(self, trees: list[WatchedTree]) -> bool:
        groups = {tree.pid: tree.cgroup.pids() for tree in trees if tree.cgroup is not None}
        samples = self._take([tree.pid for tree in trees], groups)
        near = False
        for tree in trees:
            sample = samples.get(tree.pid)
            if sample is not None:
                self._report(tree, tree.take(sample))
                tree.apply_idle(sample)
                near |= tree.is_near
        return near

    # -- folders, in a thread of their own

    def _watch_folders(self) -> None:
        while not self._stopping.wait(1.0):
            with self._lock:
                due = [tree for tree in self._watched.values() if tree.is_disk_due(time.monotonic())]
            for tree in due:
                self._report(tree, tree.measure_disk(self._stopping.is_set))

    # -- reports

    def _report(self, tree: WatchedTree, found: list[Exceeded]) -> None:
        for exceeded in found:
            if self._loop is not None:
                with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                    self._loop.call_soon_threadsafe(self._report_in_loop, tree, exceeded, context=self._context)

    def _report_in_loop(self, tree: WatchedTree, exceeded: Exceeded) -> None:
        if self._is_watched(tree):
            tree.on_exceeded(tree.mod_id, tree.number, exceeded)
