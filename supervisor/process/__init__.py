"""Start a worker process, know the moment it ends and how, and keep what it printed.

May import: `config`, `ipc`.
Never: speaks to the mod over its pipe, decides about restarts, or measures what a worker uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .crashes import (
        REPORTED_EVENTS,
        REPORTED_LINES,
        Cause,
        CrashLog,
        CrashReport,
        crash_cause,
        crash_detail,
        last_traceback,
        where_it_was,
    )
    from .descriptors import is_shortage, reserve
    from .interpreters import BOOTSTRAP, Interpreter, msgpack_folder, probe, unprobed, worker_environment
    from .launch import Launch
    from .launcher import Launcher, make_launcher
    from .leases import Leases, boottime
    from .log import ModLog, read_tail
    from .process import Exit, WorkerProcess
    from .programs import Program
    from .shield import shielded
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        crashes=(
            "Cause CrashLog CrashReport REPORTED_EVENTS REPORTED_LINES crash_cause crash_detail last_traceback "
            "where_it_was"
        ),
        descriptors="is_shortage reserve",
        interpreters="BOOTSTRAP Interpreter msgpack_folder probe unprobed worker_environment",
        launch="Launch",
        launcher="Launcher make_launcher",
        leases="Leases boottime",
        log="ModLog read_tail",
        process="Exit WorkerProcess",
        programs="Program",
        shield="shielded",
    )
