"""Reads records of the audit for people, the newest first."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .file import audit_files

Wanted = Callable[[dict[str, Any]], bool]


def newest(folder: Path, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """Return the newest records that are wanted, oldest first. Lines that are no records are left out.

    Raises:
        OSError: a file cannot be read.
    """
    found: list[dict[str, Any]] = []
    for path in reversed(audit_files(folder)):
        for line in reversed(path.read_bytes().splitlines()):
            if (each := _record(line)) is not None and wanted(each):
                found.append(each)
                if len(found) == limit:
                    return found[::-1]
    return found[::-1]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        data = json.loads(line)
    except ValueError:
        return None
    return data if isinstance(data, dict) and isinstance(data.get("at"), str) else None
