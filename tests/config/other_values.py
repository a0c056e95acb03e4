"""For each key of a network file a value that differs from its default."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modvisor.supervisor.config.values.reader import Location, Reader
from modvisor.supervisor.config.yaml.source import BROKEN, Source

_HASH = hashlib.sha256(b"secret").hexdigest()
VALUES: tuple[Any, ...] = (
    # Tried in this order; the first that a reader takes and that differs is used.
    True, False, 7, 2_000_000, 0.5, 0.25, "7s", "off", _HASH, "1.2", "least_loaded", [], ["."], ["wiki"], ["agent:alice"],
    ["mods"], ["10.0.0.1"], ["example.com"], ["https://example.com"], {"A": "b"}, {"cert": "c", "key": "k"}, "strict",
    sys.executable, "mod", ["sh"], [7, 7], "http://127.0.0.1:4318",
)  # fmt: skip


def other_value(reader: Reader, default: Any, base_dir: Path) -> Any:
    """Return a value that the reader accepts and that reads as something else than the default."""
    for value in candidates(reader):
        source = Source()
        found = reader(value, Location(source, base_dir, ("X",)))
        if found is not BROKEN and not source.problems and found != default:
            return value
    raise LookupError(f"no value here fits {reader.accepts!r}: add one to tests/config/other_values.py")


def candidates(reader: Reader) -> Iterator[Any]:
    yield from (word.strip("`") for word in reader.accepts.replace(" or ", ", ").split(", ") if "`" in word)
    yield from VALUES
