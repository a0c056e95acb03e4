"""Read what processes use, as the kernel counts it. Linux; standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_GONE = (FileNotFoundError, ProcessLookupError)


def own_memory(pid: int) -> float:
    """Return the megabytes that would be free if this process alone ended (USS)."""
    kilobytes = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:")):
            kilobytes += int(line.split()[1])
    return kilobytes * 1024 / 1e6


def resident(pid: int) -> float:
    """Return the resident megabytes (RSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time of all threads in nanoseconds: idle ones use less than a tick."""
    nanoseconds = 0
    for pid in pids:
        with suppress(*_GONE):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(*_GONE):
                    nanoseconds += int((thread / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def queued_seconds() -> float:
    """Return for how long the main thread of this process could have run but had no core."""
    return int(Path("/proc/self/schedstat").read_text().split()[1]) / 1e9


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
