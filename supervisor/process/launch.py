"""What a launcher is told about the worker that it is to start; one description for all
launchers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...ipc.cell import Cell
from .interpreters import Interpreter
from .output import BYTE_RATE
from .programs import Program


@dataclass(frozen=True, slots=True)
class Launch:
    """One worker to start.

    Attributes:
        on_output: called with everything the worker prints, and with its stack dumps once it has
            ended.
        on_end: called once, after the last output.
        log_rate: bytes of output read per second while the worker prints without pause.
        python: the interpreter of the worker, or the program that is the worker; None means the
            network's own interpreter.
        fork: fork the worker from a process that has imported all a worker needs. Launchers
            without such a process, and a ``python`` of its own, start a fresh interpreter instead.
        cgroup: the folder of the cgroup to start the worker in, where the launcher can do that. The
            worker's `WorkerProcess.in_cgroup` says whether it did.
        is_ahead: nobody waits for the worker yet.
        cell: what the worker is confined to; None: nothing.
    """

    on_output: Callable[[bytes], None]
    on_end: Callable[[], None] = lambda: None
    log_rate: int = BYTE_RATE
    python: Interpreter | Program | None = None
    fork: bool = True
    cgroup: Path | None = None
    is_ahead: bool = False
    cell: Cell | None = None
