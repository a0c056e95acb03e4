"""What a run has found, as it is kept in a file: every round, every curve, the machine and the versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modvisor.supervisor.runtime import has_uvloop

from .curves import Curve

FORMAT = 1


@dataclass(slots=True)
class Record:
    """A run.

    Attributes:
        absent: column to why it is empty; ``notes``: what else is to be known; ``problems``: what is broken.
    """

    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    plan: dict[str, Any]
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, default=list) + "\n"


class BadRecord(Exception):
    """A file that is no record of a run."""


def read(file: Path) -> Record:
    """The record in ``file``; raises `BadRecord` with what is wrong and what to do."""
    try:
        data = json.loads(file.read_text())
        if data.pop("format") != FORMAT:
            raise ValueError("another format")
        curves = [Curve(**{**each, "points": tuple(each["points"])}) for each in data.pop("curves")]
        record = Record(**data, curves=curves)
        _check(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRecord(f"{file}: expected the record of a run ({error!r}); make bench writes one") from None
    return record


def _check(record: Record) -> None:
    for figures in record.rounds:
        for column, found in figures.items():
            for key, value in found.items():
                if not isinstance(value, (int, float)) or isinstance(value, bool):
                    raise ValueError(f"{column}.{key}: expected a number, got {value!r}")


def machine() -> dict[str, Any]:
    """What the figures are of."""
    return {
        "system": platform.system(),
        "release": platform.release().partition("-")[0],
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()),
    }


def versions(of: Callable[[str], str] = version) -> dict[str, str]:
    names = ["modvisor", "msgpack", "anyio", *(["uvloop"] if has_uvloop() else [])]
    return {"python": platform.python_version(), **{name: of(name) for name in names}}
