"""Forks wardens into the namespaces of their cells, as far as this system has them.

What a system refuses is found out in a child: a namespace may be had, and a /proc for it not.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from ...ipc.cell import Cell
from ..cell.mounts import own_machine
from ..cell.namespaces import NAMES, Space, lesser, wanted
from ..cell.refusal import NotEnforced
from .clone import fork_apart

MAX_REASON = 500  # bytes

AGAIN = 10.0
"""Seconds after which a system that refused namespaces is asked again: it may have had too many just then."""


class Spaces:
    """Knows which namespaces this system gives.

    Args:
        hooks: see `clone.fork_apart`.
    """

    def __init__(self, *, hooks: bool) -> None:
        self._hooks = hooks
        self._found: dict[int, tuple[int, str, float]] = {}  # by what was wanted: what there is, why not more, when

    def of(self, cell: Cell | None) -> Space:
        """Return the namespaces for the warden of this cell."""
        flags = 0 if cell is None else wanted(cell)
        if not flags:
            return Space()
        given, reason, asked = self._found.get(flags, (0, "", -AGAIN))
        if given != flags and time.monotonic() >= asked + AGAIN:
            given, reason = _possible(flags)
            self._found[flags] = given, reason, time.monotonic()
        return Space(given, reason)

    def fork(self, space: Space) -> int:
        """Fork into the namespaces. Raise OSError."""
        return fork_apart(space.flags, hooks=self._hooks)


def _possible(flags: int) -> tuple[int, str]:
    """Return as many of the namespaces as can be had together, and why not all of them."""
    reason = ""
    for attempt in lesser(flags):
        why = _try(attempt) if attempt else ""
        if not why:
            return attempt, reason
        reason = reason or why
    return 0, reason


def _try(flags: int) -> str:
    """Return why a child cannot live in these namespaces; "" if it can."""
    reading, writing = os.pipe()
    space = Space(flags)  # before the fork: inside, the user has no name until it is mapped
    try:
        try:
            child = fork_apart(flags, hooks=False)
        except OSError as error:
            return f"{_names(flags)} namespaces are refused: {error.strerror}"
        if not child:
            _be_tried(space, writing)
        os.close(writing)
        writing = -1
        said = os.read(reading, MAX_REASON).decode("utf-8", "replace")
        status = os.waitpid(child, 0)[1]
        return said or ("" if status == 0 else f"{_names(flags)} namespaces do not work here")
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def _be_tried(space: Space, writing: int) -> None:
    status = 1
    with suppress(BaseException):  # this forked process must never return into its parent's code
        try:
            space.enter()
            if space.is_init:
                own_machine()
            status = 0
        except NotEnforced as error:
            os.write(writing, str(error).encode()[:MAX_REASON])
    os._exit(status)


def _names(flags: int) -> str:
    return ", ".join(name for flag, name in NAMES.items() if flags & flag)
