"""What a run has found, as `--json` keeps it in a file: every round, and the machine."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from modvisor.supervisor.runtime import has_uvloop

FORMAT = 2


@dataclass(slots=True)
class Record:
    """A run.

    Attributes:
        rounds: of each round, column to key to figure.
        absent: column to the reason why it is empty.
        notes: what a reader must know.
        problems: what is broken.
    """

    date: str
    machine: dict[str, Any]
    rounds: list[dict[str, dict[str, float]]] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"


def read(file: Path) -> Record:
    """Return the record that `to_json` has written."""
    data = json.loads(file.read_text())
    if data.pop("format", None) != FORMAT:
        raise ValueError(f"{file}: expected the record of a run; --json FILE writes one")
    return Record(**data)


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "system": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "cores": os.cpu_count(),
        "python": platform.python_version() + (" on uvloop" if has_uvloop() else ""),
        "load": os.getloadavg()[0],
    }
