"""Confine this process to a cell: the whole order of it.

Each step takes away what the later ones do not need. What was made before: the namespaces, by the
guardian and the warden (`namespaces`), and the mounts (`files`). What follows: code of the mod.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from ...ipc.cell import (
    ALL,
    EXEC,
    FOLDERS,
    LISTED,
    NOT,
    OFF,
    PRIVILEGES,
    PROCESSES,
    SYSCALLS,
    USER,
    Cell,
    missing,
)
from . import capabilities, landlock, mounts, seccomp
from .files import Files, Made
from .last_exec import LastExec
from .namespaces import NEWNS, NEWUSER, Space
from .refusal import NotEnforced


def confine(cell: Cell, files: Files, program: LastExec | None = None) -> dict[str, str]:
    """Confine this process, which has one thread. Return the report: the means of each part.

    Args:
        files: the mounts, which the warden makes.
        program: what the process is to become, which undoes what holds for its memory alone.

    Raises:
        NotEnforced: a part of a required cell cannot be enforced. The process must not go on.
    """
    made = files.wait(cell)
    if made.failure:
        raise NotEnforced(made.failure)
    report = _Steps(cell, files.space, made, program).take_all()
    if cell.required and (gaps := missing(report)):
        raise NotEnforced("; ".join(f"{part}: {why}" for part, why in gaps.items()))
    return report


class _Steps:
    """The steps of one process, and what came of them."""

    def __init__(self, cell: Cell, space: Space, made: Made, program: LastExec | None) -> None:
        self._cell = cell
        self._space = space
        self._made = made
        self._program = program
        self._report: dict[str, str] = {}

    def take_all(self) -> dict[str, str]:
        """Take every step that the cell asks for, in order. Return the report."""
        cell = self._cell
        if cell.processes:
            self._take(self._space.own_processes, PROCESSES)
        if cell.files != ALL:
            self._take(self._own_files, FOLDERS)
        if self._program is not None and not cell.exec:
            self._take(self._program.be_the_last, EXEC)
        if cell.user >= 0:
            self._take(lambda: capabilities.become(cell.user), USER)
        self._take(capabilities.drop_all, PRIVILEGES)
        if cell.profile != OFF or self._walled or self._filtered:
            self._take(capabilities.forbid_new, PRIVILEGES)  # no wall and no filter without it
        if cell.profile != OFF and self._program is None and not self._space.has(NEWUSER):
            self._take(capabilities.hide_memory, PRIVILEGES)  # nobody looks into a user namespace from outside
        if self._walled:
            self._take(self._wall, *self._walled)
        if self._filtered:
            self._take(self._filter, *self._filtered)
        return self._report

    @property
    def _walled(self) -> list[str]:
        return [FOLDERS] if self._cell.files == LISTED else [PROCESSES] if self._cell.processes else []

    @property
    def _filtered(self) -> list[str]:
        cell = self._cell
        return [*([SYSCALLS] if cell.syscalls or cell.profile != OFF else []), *([] if cell.exec else [EXEC])]

    def _wall(self) -> str:
        if self._cell.files != LISTED:
            return landlock.scope()
        return landlock.restrict(self._cell, in_view=self._made.in_view, execs=self._program is not None)

    def _filter(self) -> str:
        return seccomp.restrict(self._cell, -1 if self._program is None else self._program.descriptor)

    def _own_files(self) -> str:
        self._space.need(NEWNS)
        if self._made.gap:
            raise NotEnforced(self._made.gap)
        if self._space.is_roots:
            mounts.seal_settings()
        _go_to(self._cell.folder, self._cell.storage)
        return self._made.means

    def _take(self, step: Callable[[], str], *parts: str) -> None:
        """Take one step, and add its means to these parts of the report."""
        try:
            means = step()
        except NotEnforced as error:
            means = f"{NOT}{error}"
        except OSError as error:
            means = f"{NOT}{error.strerror}: {os.fsdecode(error.filename or '')}"
        for part in parts:
            before = self._report.get(part)
            if before is None or (means.startswith(NOT) and not before.startswith(NOT)):
                self._report[part] = means
            elif not means.startswith(NOT):
                self._report[part] = f"{before}; {means}" if before.startswith(NOT) else f"{before}, {means}"


def _go_to(*folders: bytes) -> None:
    """Make the first of these folders that is there the working folder."""
    for folder in folders:
        with suppress(OSError):
            return os.chdir(folder)
