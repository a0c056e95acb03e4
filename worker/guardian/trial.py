"""``python -m modvisor.worker.guardian.trial``: what this host enforces of each profile, as JSON.

For each profile a process is confined as a worker would be, and its report is printed:
``{"default": {"processes": "PID and IPC namespaces", …}, …}``. Nothing is changed.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import replace
from tempfile import TemporaryDirectory

from ...ipc.cell import DEFAULT, HIDDEN, LISTED, NOT, OFF, PRIVILEGES, STRICT, Cell, as_report
from ..cell.apply import confine
from ..cell.files import Files
from ..cell.outside import open_way
from ..cell.refusal import NotEnforced
from .clone import fork_without_hooks
from .spaces import Spaces

MAX_REPORT = 64 * 1024  # bytes

PROFILES = (
    Cell(OFF),
    Cell(DEFAULT, processes=True, files=HIDDEN),
    Cell(STRICT, processes=True, files=LISTED, network=(), exec=False, syscalls=True),
)


def try_cell(cell: Cell) -> dict[str, str]:
    """Return the report of a process that was confined to this cell."""
    with TemporaryDirectory(prefix="modvisor-") as folder:
        storage = os.path.join(folder, "state", "own")
        os.makedirs(storage)
        hidden = os.fsencode(os.path.dirname(storage))
        place = os.fsencode(storage)
        return _report_of(replace(cell, hidden=(hidden,), storage=place, folder=place, read=(os.fsencode(sys.prefix),)))


def _report_of(cell: Cell) -> dict[str, str]:
    spaces = Spaces(hooks=False)
    space = spaces.of(cell)
    reading, writing = os.pipe()
    pid = spaces.fork(space) if space.flags else fork_without_hooks()
    if not pid:
        with suppress(BaseException):  # this forked process must never return into its parent's code
            report = {PRIVILEGES: f"{NOT}the trial failed"}
            try:
                space.enter()
                outside, _ = open_way(cell, space)
                files = Files(cell, space)
                files.make()
                report = {**space.report(), **outside, **confine(cell, files)}
            except NotEnforced as error:
                report = {PRIVILEGES: f"{NOT}{error}"}
            os.write(writing, json.dumps(report).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        said = file.read(MAX_REPORT)
    os.waitpid(pid, 0)
    return as_report(json.loads(said)) if said else {PRIVILEGES: f"{NOT}the trial failed"}


if __name__ == "__main__":
    sys.stdout.write(json.dumps({cell.profile: try_cell(cell) for cell in PROFILES}))
