"""Two figures of the whole machine that are cheap to read: they tell when a full look is due early.

A fork bomb, a leak of threads or a leak of memory moves one of them within milliseconds. Reading
both costs a few microseconds, so the watchdog reads them often and samples the trees seldom.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

TASK_JUMP = 30
"""How many processes and threads the machine may gain between two passes."""

CORES = os.cpu_count() or 1

MEMORY_JUMP = 64 * 1024 * 1024
"""How many bytes of available memory the machine may lose between two passes."""


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


@dataclass(slots=True)
class Tripwires:
    """Compare the machine's tasks and available memory with those at the last `rearm`."""

    _loads: int | None = field(default_factory=lambda: _open("/proc/loadavg"))
    _memory: int | None = field(default_factory=lambda: _open("/proc/meminfo"))
    _tasks_then: int | None = None
    _available_then: int | None = None

    def rearm(self) -> None:
        """Count from here."""
        self._tasks_then, self._available_then = self._tasks(), self._available()

    def touched(self) -> bool:
        """Return whether one of the two figures has jumped."""
        tasks, available = self._tasks(), self._available()
        if tasks is not None and self._tasks_then is not None and tasks > self._tasks_then + TASK_JUMP:
            return True
        return (
            available is not None
            and self._available_then is not None
            and available < self._available_then - MEMORY_JUMP
        )

    def crowded(self) -> bool:
        """Return whether the machine has more to run than cores. This thread, which runs, counts."""
        try:
            return self._loads is not None and int(os.pread(self._loads, 64, 0).split()[3].split(b"/")[0]) > CORES
        except (OSError, IndexError, ValueError):
            return False

    def close(self) -> None:
        """Close the two files. No tripwire is touched afterwards."""
        for fd in (self._loads, self._memory):
            if fd is not None:
                os.close(fd)
        self._loads = self._memory = None

    def _tasks(self) -> int | None:
        """Return the processes and threads of the machine: the 80 of ``0.20 0.18 0.12 1/80
        11206``.
        """
        try:
            return None if self._loads is None else int(os.pread(self._loads, 64, 0).split()[3].split(b"/")[1])
        except (OSError, IndexError, ValueError):
            return None

    def _available(self) -> int | None:
        """Return the bytes of memory that programs can still take."""
        try:
            text = b"" if self._memory is None else os.pread(self._memory, 256, 0)
            return 1024 * int(text.split(b"MemAvailable:")[1].split()[0])
        except (OSError, IndexError, ValueError):
            return None
