"""What the network file says of the audit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..values.basic import absolute_path, or_null, read_keys, size, whole
from ..values.keys import key, keys_of, readers_of, schema_of
from ..values.reader import Location, Reader, got
from ..values.schema_parts import Schema, either, of_type, words

STRICT, BEST_EFFORT, NO_AUDIT = "strict", "best_effort", "off"
MODES = (STRICT, BEST_EFFORT, NO_AUDIT)


def _mode(value: Any, at: Location) -> Any:
    value = NO_AUDIT if value is False else value  # YAML reads the bare word off as false
    return value if isinstance(value, str) and value in MODES else at.wrong(
        f"expected one of {', '.join(MODES)}, got {got(value)}"
    )  # fmt: skip


def _syslog(value: Any, at: Location) -> Any:
    if value is True or value is False:
        return Path("/dev/log") if value else None
    return absolute_path(value, at)


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """Who did what, on disk. Sizes in bytes."""

    mode: str = key(
        STRICT,
        Reader("`strict`, `best_effort` or `off`", _mode, schema=lambda: words(*MODES, False)),
        "`strict`: commands that change something are refused while the audit cannot be written; `best_effort`: they "
        "are not, and what could not be written is counted; `off`: there is no audit",
    )
    file_bytes: int = key(
        10_000_000, size(10_000), "a file that has grown beyond it is put aside, and a new one begins"
    )
    files: int = key(10, whole(1, 10_000), "how many files that were put aside are kept; the oldest are removed first")
    key_file: Path | None = key(
        None,
        or_null(absolute_path),
        "the file with the key of the chain, at least 32 characters; best on another disk or of another machine. null: "
        "`audit.key` in `network.storage`, made at the first start",
    )
    refused_bytes: int = key(
        4096,
        size(1000),
        "how large the records of requests that were refused within a minute may be together; the rest is one record "
        "with their number",
    )
    syslog: Path | None = key(
        None,
        or_null(Reader("true, false or path", _syslog, schema=lambda: of_type("boolean", "string"))),
        "true: number and MAC of the newest record also go to the system's log (`/dev/log`, or the socket at this "
        "path), which others than the network can keep",
    )


_TABLE = readers_of(AuditConfig)


def _audit(value: Any, at: Location) -> Any:
    """Read the section, or the mode alone."""
    if value is False or isinstance(value, str):
        value = {"mode": value}
    return AuditConfig(**read_keys(value, at, _TABLE))


def _schema() -> Schema:
    return either(words(*MODES, False), schema_of(keys_of(AuditConfig)))


audit_section = Reader("mapping, or its `mode` alone", _audit, lambda _: "{}", _schema)
