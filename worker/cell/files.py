"""The mounts of a cell: the warden makes them while the worker begins, so that no load waits for them.

Both live in one mount namespace. The worker waits for the mounts when it confines itself, before any
code of the mod runs; until then it needs nothing that they hide. A spare begins before its mod is
known: it hides the files itself when it gets one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass

import msgpack

from ...ipc.cell import ALL, LISTED, Cell
from ...ipc.messages import pack
from . import mounts, view
from .namespaces import NEWNS, Space
from .refusal import NotEnforced

MAX_TEXT = 500  # characters of a reason, so that all that is told fits into a pipe
MAX_TOLD = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Made:
    """What came of the mounts.

    Attributes:
        means: by which files are hidden.
        in_view: whether the process has a root of its own (`view`).
        gap: why files are not hidden; "" if they are.
        failure: why the process must not go on; "" if it may.
    """

    means: str = ""
    in_view: bool = False
    gap: str = ""
    failure: str = ""


class Files:
    """The mounts of one cell. Make it in the warden, before the worker is forked.

    Args:
        cell: of the order; None: the worker is not confined.
        is_ahead: whether the worker is a spare. Then the cell says which namespaces it has, no more.
    """

    def __init__(self, cell: Cell | None, space: Space, *, is_ahead: bool = False) -> None:
        self._cell = cell or Cell()
        self.space = space
        self._is_ahead = is_ahead
        self._hides = self._cell.files != ALL and space.has(NEWNS)
        self._later: list[bytes] = []  # what was hidden when the mod ran
        self._told = self._telling = -1
        if self._hides or space.is_init:
            self._told, self._telling = os.pipe()

    def make(self) -> None:
        """Make the mounts, in the warden, and tell the worker, which says what failed."""
        if self._telling >= 0:
            os.write(self._telling, pack(astuple(self._made())))
        self.leave_telling()

    def _made(self) -> Made:
        try:
            if self.space.is_init:
                mounts.own_machine()
        except (NotEnforced, OSError) as error:
            return Made(failure=_reason(error))
        if not self._hides:
            return Made()
        return _tried(lambda: _protected(self.space) if self._is_ahead else _furnished(self._cell, self.space))

    def hide(self, paths: Iterable[bytes] = ()) -> None:
        """Hide more, in the warden, from the mod that runs; and again what was hidden so and has been replaced.

        What the mod has open stays open. What cannot be hidden yet is tried again at the next call.
        """
        self._later += [path for path in paths if path not in self._later]
        if self._later and self._hides:
            mounts.hide_later(self._later, self._cell.hidden)

    def leave_telling(self) -> None:
        """Tell nothing more. Call this in the worker, too, so that the death of the warden ends its wait."""
        if self._telling >= 0:
            os.close(self._telling)
            self._telling = -1

    def leave_waiting(self) -> None:
        """Leave the wait to the worker. Call this in the warden when the worker is forked."""
        if self._told >= 0:
            os.close(self._told)
            self._told = -1

    def wait(self, cell: Cell) -> Made:
        """Wait, in the worker, until the mounts are made. Make those that a spare has not got yet.

        Args:
            cell: of the mod.
        """
        if self._told < 0:
            return Made()
        told = os.read(self._told, MAX_TOLD)
        self.leave_waiting()
        made = Made(*msgpack.unpackb(told)) if told else Made(failure="the warden has died")
        if self._is_ahead and cell.files != ALL and not made.gap and not made.failure:
            return _tried(lambda: _hidden(cell))
        return made


def _tried(step: Callable[[], Made]) -> Made:
    try:
        return step()
    except (NotEnforced, OSError) as error:
        return Made(gap=_reason(error))


def _reason(error: NotEnforced | OSError) -> str:
    if isinstance(error, NotEnforced):
        return str(error)[:MAX_TEXT]
    return f"{error.strerror}: {os.fsdecode(error.filename or '')}"[:MAX_TEXT]


def _protected(space: Space) -> Made:
    if space.is_roots:
        mounts.protect_machine(has_own=space.is_init)
    return Made()


def _furnished(cell: Cell, space: Space) -> Made:
    means = mounts.hide(cell)
    if cell.files != LISTED:
        _protected(space)
        return Made(means)
    try:
        return Made(view.enter(cell), in_view=True)
    except (NotEnforced, OSError):
        _protected(space)  # without a root of its own it sees the machine's devices
        raise


def _hidden(cell: Cell) -> Made:
    means = mounts.hide(cell)
    return Made(view.enter(cell), in_view=True) if cell.files == LISTED else Made(means)
