"""What every launcher promises, and which launcher this system gets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Protocol

from .children import ExecLauncher
from .guarded import GuardianLauncher
from .guardian_process import IMPORTING
from .launch import Launch
from .process import WorkerProcess


class Launcher(Protocol):
    """Starts workers. Every implementation passes ``tests/process/test_launchers.py``."""

    async def start(self) -> None:
        """Get ready to launch. May be called again.

        Raises:
            OSError: the system has no process, descriptor or memory left.
            ModvisorError: a module of ``preload`` cannot be imported.
        """
        ...

    async def launch(self, launch: Launch) -> WorkerProcess:
        """Start a worker. A cancelled launch leaves nothing behind.

        Raises:
            OSError: the system has no process, descriptor or memory left.
            ModvisorError: not_running: the launcher is closed.
        """
        ...

    @property
    def roots(self) -> frozenset[int]:
        """The pids of the processes below which all processes of workers are, as far as nobody lost them."""
        ...

    async def close(self) -> None:
        """End every worker at once, with everything it started, and start no other one. May be called again."""
        ...


def make_launcher(cwd: Path, preload: tuple[str, ...] = (), preload_timeout: float = IMPORTING) -> Launcher:
    """Return the launcher for this system.

    Args:
        cwd: the workers' working directory.
        preload: modules to import before workers are forked, on systems that fork them.
        preload_timeout: seconds that the import of one of them may take.
    """
    if sys.platform != "linux":
        return ExecLauncher(cwd)
    return GuardianLauncher(cwd, preload=preload, preload_timeout=preload_timeout)
