"""Start workers, know the moment one ends, end it with everything it started: the interface, and which one is used here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from .children import ExecLauncher
from .guarded import GuardianLauncher
from .interpreters import Interpreter
from .output import BYTE_RATE
from .process import Exit, Usage, WorkerProcess

__all__ = ["ExecLauncher", "Exit", "GuardianLauncher", "Launcher", "Usage", "WorkerProcess", "make_launcher"]


class Launcher(Protocol):
    """Starts workers; one contract, however the process comes to be (``tests/supervisor/test_launchers.py``)."""

    async def start(self) -> None:
        """Be ready to launch. May be called again. Raises OSError, or `ModvisorError`: what is to be preloaded cannot be."""
        ...

    async def launch(
        self,
        on_output: Callable[[bytes], None],
        *,
        log_rate: int = BYTE_RATE,
        python: Interpreter | None = None,
        fork: bool = True,
        cgroup: Path | None = None,
    ) -> WorkerProcess:
        """Start a worker; one whose launch is cancelled leaves nothing behind.

        Args:
            on_output: called with all it prints, and with its stack dumps when it has ended.
            log_rate: bytes of output read per second, while it lasts.
            python: the interpreter it is to run under; None: the network's own.
            fork: from a process that has imported all a worker needs, where the launcher has one and ``python`` allows it; else
                a fresh interpreter is started.
            cgroup: where it is to begin, if the launcher can do that; its ``in_cgroup`` says whether it has.

        Raises:
            OSError: the system has no process, descriptor or memory left.
        """
        ...

    async def close(self) -> None:
        """End every worker at once; nothing of them is left. May be called again."""
        ...


def make_launcher(cwd: Path, preload: tuple[str, ...] = ()) -> Launcher:
    """The launcher for this system.

    Args:
        cwd: the workers' working directory.
        preload: modules that are imported before workers are forked, where they are.
    """
    return GuardianLauncher(cwd, preload=preload) if sys.platform == "linux" else ExecLauncher(cwd)
