"""How a forked worker confines itself to its cell, at its load. Whoever forks it says how.

A worker that is a program of its own was confined before it began, and needs none of the code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ipc.cell import Cell
from ..ipc.errors import Code, ModvisorError
from .cell.refusal import NotEnforced

_steps: list[Callable[[Cell], dict[str, str]]] = []


def by(step: Callable[[Cell], dict[str, str]]) -> None:
    """Have `confined` take this step."""
    _steps[:] = [step]


def confined(cell: list[Any]) -> dict[str, str]:
    """Confine this process, before any code of the mod runs in it. Return the report.

    Args:
        cell: the parameter of `load`.

    Raises:
        ModvisorError: a part of the cell is required and cannot be enforced.
    """
    report: dict[str, str] = {}
    try:
        for step in _steps:
            report |= step(Cell.from_list(cell))
    except NotEnforced as error:
        raise ModvisorError(str(error), code=Code.NOT_CONFINED) from None
    return report
