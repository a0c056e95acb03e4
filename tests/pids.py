"""Pids of mods' processes as the tests know them: a mod has a PID namespace of its own, in which it is process 2.

A mod says its pid and the number of its namespace, which is the same inside and outside, such as ``2 4026532201``, by
``f"{os.getpid()} {os.stat('/proc/self/ns/pid').st_ino}"``.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path


def namespace(pid: int | str) -> int:
    """The number of the PID namespace of a process."""
    return os.stat(f"/proc/{pid}/ns/pid").st_ino


def outside(wanted: Collection[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """The pids here of the processes with these pids in these namespaces, as far as they live."""
    found = {}
    inner = {pid for pid, _ in wanted}
    for name in os.listdir("/proc"):
        with suppress(OSError):  # it has ended meanwhile
            if name.isdecimal() and (pid := _innermost(name)) in inner and (said := (pid, namespace(name))) in wanted:
                found[said] = int(name)
    return found


def heard(said: str) -> int:
    """The pid here of a process that has said who it is, as above. Raises KeyError for one that has ended."""
    inner, of = map(int, said.split())
    return outside({(inner, of)})[inner, of]


def beside(inner: int, worker: int) -> int:
    """The pid here of a process that has the pid ``inner`` for the mod with this worker."""
    return heard(f"{inner} {namespace(worker)}")


def _innermost(name: str) -> int:
    for line in Path(f"/proc/{name}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return int(line.split()[-1])
    return int(name)
