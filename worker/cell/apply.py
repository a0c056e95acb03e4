"""Confine this process to a cell: the whole order of it.

Each step takes away what the later ones do not need. What was made before: the namespaces, by the
guardian and the warden (`namespaces`). What follows: code of the mod.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from ...ipc.cell import ALL, FOLDERS, NOT, OFF, PRIVILEGES, PROCESSES, USER, Cell, missing
from . import capabilities, mounts
from .namespaces import NEWNS, NEWUSER, Space
from .refusal import NotEnforced


def confine(cell: Cell, space: Space, *, execs: bool = False) -> dict[str, str]:
    """Confine this process, which has one thread. Return the report: the means of each part.

    Args:
        execs: the process becomes another program, which undoes what holds for its memory alone.

    Raises:
        NotEnforced: a part of a required cell cannot be enforced. The process must not go on.
    """
    report: dict[str, str] = {}
    for part, step in _steps(cell, space, execs):
        _take(report, part, step)
    if cell.required and (gaps := missing(report)):
        raise NotEnforced("; ".join(f"{part}: {why}" for part, why in gaps.items()))
    return report


def _steps(cell: Cell, space: Space, execs: bool) -> Iterator[tuple[str, Callable[[], str]]]:
    """Return what to do for which part, in order."""
    if cell.processes:
        yield PROCESSES, space.own_processes
    if cell.files != ALL:
        yield FOLDERS, lambda: _own_files(cell, space)
    if cell.user >= 0:
        yield USER, lambda: capabilities.become(cell.user)
    yield PRIVILEGES, capabilities.drop_all
    if cell.profile != OFF:
        yield PRIVILEGES, capabilities.forbid_new
        if not (execs or space.has(NEWUSER)):  # whose user may look at it from outside, and nobody else
            yield PRIVILEGES, capabilities.hide_memory


def _take(report: dict[str, str], part: str, step: Callable[[], str]) -> None:
    """Take one step, and add its means to the report."""
    before = report.get(part)
    try:
        means = step()
    except NotEnforced as error:
        means = f"{NOT}{error}"
    except OSError as error:
        means = f"{NOT}{error.strerror}: {os.fsdecode(error.filename or '')}"
    if before is None or means.startswith(NOT):
        report[part] = means
    elif not before.startswith(NOT):
        report[part] = f"{before}, {means}"


def _own_files(cell: Cell, space: Space) -> str:
    space.need(NEWNS)
    means = mounts.hide(cell)
    if cell.folder:
        os.chdir(cell.folder)
    if space.is_roots:
        mounts.protect_machine()
    return means
