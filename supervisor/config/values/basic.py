"""Readers of values of every kind: text, numbers, durations, sizes, paths, lists and mappings.

`modvisor.supervisor.config.values.reader` says what a reader is. The readers of lists and mappings are
built from the readers of their items.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from ....ipc.errors import Code, Unserializable
from ....ipc.messages import pack
from ..yaml.bounds import MAX_DEPTH
from ..yaml.doubts import has_leading_zero
from ..yaml.source import BROKEN
from .reader import Location, Reader, got, hint, reader
from .schema_parts import listed, named, nullable, of_type, words

AUTO, OFF = "auto", "off"

MAX_COUNT = 1_000_000_000  # no count here can mean more, and every system call takes it
MAX_SIZE = 2**63 - 1  # the largest value of a resource limit

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?(ms|s|m|h|d)")
# Decimal, because 700 * 0.001 is not 0.7 in floats.
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_EXPECTED = f"expected seconds or a duration such as '30s' (units: {', '.join(_SECONDS)})"

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([kmgt]?b|[kmgt]ib)", re.IGNORECASE | re.ASCII)
_THOUSANDS = {"TB": 10**12, "GB": 10**9, "MB": 10**6, "KB": 10**3}
_POWERS = {"TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
_BYTES = {unit.lower(): size for unit, size in (_THOUSANDS | _POWERS | {"B": 1}).items()}

_UNUSABLE = re.compile("[\0\ud800-\udfff]")


# -- single values


@reader("text", "string", pattern=r"\S")
def text(value: Any, at: Location) -> Any:
    """Read text that is not blank."""
    if isinstance(value, (bool, int, float)):
        return at.wrong(f"expected text, got {got(value)}; put it in quotes")
    if not isinstance(value, str):
        return at.wrong(f"expected text, got {got(value)}")
    return usable(value, at) if value.strip() else at.wrong("must not be empty")


def usable(value: str, at: Location) -> Any:
    """Return text that a path, a variable and a message can carry."""
    if _UNUSABLE.search(value):
        return at.wrong(
            "contains a NUL or half of a surrogate pair, which paths, variables and messages cannot carry; remove it"
        )
    return value


@reader("module", "string")
def module(value: Any, at: Location) -> Any:
    """Read the name of a Python module."""
    found = text(value, at)
    if found is BROKEN or all(part.isidentifier() for part in found.split(".")):
        return found
    return at.wrong(f"expected the name of a module, such as numpy or pandas.io, got {got(value)}")


@reader("true or false", "boolean")
def flag(value: Any, at: Location) -> Any:
    """Read true or false."""
    value = _plain(value, at)
    return value if isinstance(value, bool) else at.wrong(f"expected true or false, got {got(value)}")


def _plain(value: Any, at: Location) -> Any:
    """Return what YAML reads in the text of a variable: ``"${PORT}"`` is a number where one is expected."""
    substituted = at.source.variables.get(at.key) if isinstance(value, str) else None
    return value if substituted is None else substituted.plain


def whole(low: int, high: int = MAX_COUNT) -> Reader:
    """Read a whole number; true and false are not numbers."""

    def read(value: Any, at: Location) -> Any:
        value = _plain(value, at)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        return at.wrong(f"expected a whole number from {low} to {high}, got {got(value)}{_fix(value)}")

    accepts = f"{low} or more" if high == MAX_COUNT else f"{low} to {high}"
    return Reader(accepts, read, schema=lambda: of_type("integer", minimum=low, maximum=high))


def number(low: float, high: float) -> Reader:
    """Read a number, whole or not; true and false are not numbers."""

    def read(value: Any, at: Location) -> Any:
        value = _plain(value, at)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        return at.wrong(f"expected a number from {low:g} to {high:g}, got {got(value)}{_fix(value)}")

    schema = partial(of_type, "number", minimum=low, maximum=high)
    return Reader(f"number, {low:g} to {high:g}", read, schema=schema)


def _fix(value: Any) -> str:
    """Return how to write a text that looks like a number, as the end of a message."""
    if not isinstance(value, str) or len(value) > 30:
        return ""
    if has_leading_zero(value):
        return "; write it without the leading zero, which YAML takes for the sign of an octal number"
    try:
        number = float(value)
    except ValueError:
        return ""
    return f"; write {number:.15g}" if math.isfinite(number) else ""


def duration(*, zero: bool = False) -> Reader:
    """Read seconds as float, from a number or ``"500ms"``, ``"30s"``, ``"2m"``, ``"1h"``, ``"30d"``."""

    def read(value: Any, at: Location) -> Any:
        value = _plain(value, at)
        seconds = _in_seconds(value)
        if seconds is None:
            return at.wrong(f"{_EXPECTED}, got {got(value)}{_fix(value)}")
        if not 0 <= seconds <= MAX_COUNT or (seconds == 0 and not zero):
            least = "0 seconds or more" if zero else "more than 0 seconds"
            return at.wrong(f"expected {least}, at most {MAX_COUNT}, got {got(value)}")
        return float(seconds)

    least = {"minimum" if zero else "exclusiveMinimum": 0, "maximum": MAX_COUNT}
    schema = partial(of_type, "number", "string", **least, pattern=f"^{_DURATION.pattern}$")
    return Reader("duration (may be 0)" if zero else "duration", read, written_duration, schema)


def _in_seconds(value: Any) -> float | None:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(Decimal(match[1]) * _SECONDS[match[2]])
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def written_duration(seconds: float) -> str:
    """Write a duration with its largest fitting unit: ``1.5s``, ``2m``, ``30d``."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    unit = next((unit for unit in ("d", "h", "m") if seconds and seconds % float(_SECONDS[unit]) == 0), "s")
    return f"{seconds / float(_SECONDS[unit]):g}{unit}"


def size(low: int) -> Reader:
    """Read bytes as int, from a whole number, ``"512MB"`` (thousands) or ``"512MiB"`` (1024s)."""

    def read(value: Any, at: Location) -> Any:
        value = _plain(value, at)
        if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
            count = int(Decimal(match[1]) * _BYTES[match[2].lower()])
        elif isinstance(value, int) and not isinstance(value, bool):
            count = value
        else:
            return at.wrong(f"expected a size such as '512MB', got {got(value)}{_fix(value)}")
        if low <= count <= MAX_SIZE:
            return count
        return at.wrong(f"expected {low} bytes or more, got {got(value)}; give a unit, as in '512MB'")

    accepts = f"size, {written_size(low)} or more" if low else "size"
    pattern = r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtT][iI]?)?[bB]$"  # JSON Schema knows no flags
    schema = partial(of_type, "integer", "string", minimum=low, maximum=MAX_SIZE, pattern=pattern)
    return Reader(accepts, read, written_size, schema)


def written_size(count: int) -> str:
    """Write a size with its largest fitting unit: ``64MiB``, ``1MB``."""
    for unit, size in (*_POWERS.items(), *_THOUSANDS.items()):
        if count and count % size == 0:
            return f"{count // size}{unit}"
    return str(count)


def one_of(*accepted: str) -> Reader:
    """Read one of these words."""

    def read(value: Any, at: Location) -> Any:
        if isinstance(value, str) and value in accepted:
            return value
        return at.wrong(f"expected one of {', '.join(accepted)}, got {got(value)}")

    accepts = " or ".join((", ".join(f"`{word}`" for word in accepted[:-1]), f"`{accepted[-1]}`"))
    return Reader(accepts, read, schema=lambda: words(*accepted))


def _auto_or_off(value: Any, at: Location) -> Any:
    if value is False or value == OFF:
        return OFF
    return AUTO if value == AUTO else at.wrong(f"expected {AUTO} or {OFF}, got {got(value)}")


auto_or_off = Reader(f"`{AUTO}` or `{OFF}`", _auto_or_off, schema=lambda: words(AUTO, OFF, False))
"""Reads `AUTO` or `OFF`. YAML reads the bare word off as false."""


# -- paths


def joined(base: Path, name: str) -> Path:
    """Make a path absolute; unlike `Path.resolve` it keeps a link that the user named."""
    return Path(os.path.abspath(base / os.path.expanduser(name)))


@reader("path", "string")
def absolute_path(value: Any, at: Location) -> Any:
    """Read a path; a relative one starts at the folder of its file."""
    name = text(value, at)
    return name if name is BROKEN else joined(at.base_dir, name)


@reader("path", "string")
def folder(value: Any, at: Location) -> Any:
    """Read the path of a folder that exists."""
    found = absolute_path(value, at)
    return found if found is BROKEN or os.path.isdir(found) else at.wrong(f"the folder {found} does not exist")


@reader("path", "string")
def interpreter(value: Any, at: Location) -> Any:
    """Read a Python: its path, a virtual environment, or a command on PATH. Does not start it."""
    name = text(value, at)
    if name is BROKEN:
        return BROKEN
    found = joined(at.base_dir, name)
    if found.is_dir():
        python = found / "bin" / "python"
        if python.exists():
            return python
        return at.wrong(
            f"{found} has no bin/python, so it is not a virtual environment; create one with: python3 -m venv {found}",
            code=Code.BAD_PYTHON,
        )
    if not found.exists() and os.sep not in name and (command := shutil.which(name)) is not None:
        return Path(command)
    if os.access(found, os.X_OK):
        return found
    what = "is not executable" if found.exists() else "does not exist"
    message = f"{found} {what}; give a Python (3.11 or newer) or the folder of a virtual environment"
    return at.wrong(message, code=Code.BAD_PYTHON)


@reader("list of texts", "array", items=of_type("string", "number"), minItems=1)
def command(value: Any, at: Location) -> Any:
    """Read a program with its arguments. The program is a path, or a command on PATH. Does not start it."""
    if not isinstance(value, (list, tuple)) or not value:
        return at.wrong(f"expected a list of a program and its arguments, such as [./wiki-worker], got {got(value)}")
    words = [_argument(word, at / index) for index, word in enumerate(value) if word is not BROKEN]
    if BROKEN in words or len(words) < len(value):
        return BROKEN
    program = _program(words[0], at / 0)
    return BROKEN if program is BROKEN else (program, *words[1:])


def _argument(value: Any, at: Location) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return at.source.texts.get(at.key) or str(value)
    return (
        usable(value, at) if isinstance(value, str) else at.wrong(f"expected text, got {got(value)}; put it in quotes")
    )


def _program(name: str, at: Location) -> Any:
    if os.sep not in name:
        found = shutil.which(name)
        text = f"no command {name!r} on PATH; give its path, such as ./{name or 'wiki-worker'}"
        return found or at.wrong(text, code=Code.BAD_COMMAND)
    path = joined(at.base_dir, name)
    if os.access(path, os.X_OK) and path.is_file():
        return str(path)
    what = "is not an executable file (chmod +x)" if path.exists() else "does not exist"
    return at.wrong(f"the program {path} {what}", code=Code.BAD_COMMAND)


# -- free-form data


@reader("mapping", "object", "null")
def plain(value: Any, at: Location) -> Any:
    """Read a mapping that a message can carry to a worker, and copy it; None is empty."""
    if value is None:
        return {}
    return _copy(value, at, ()) if isinstance(value, dict) else at.wrong(f"expected a mapping, got {got(value)}")


def _copy(value: Any, at: Location, above: tuple[int, ...]) -> Any:
    if not isinstance(value, (dict, list, tuple)):
        return _packable(value, at)
    if len(above) > MAX_DEPTH or id(value) in above:
        return at.wrong(f"nested deeper than {MAX_DEPTH} levels, or contains itself")
    above = (*above, id(value))
    if isinstance(value, dict):
        return {key: _copy(item, at / key_name(key, at), above) for key, item in value.items() if item is not BROKEN}
    return [_copy(item, at / index, above) for index, item in enumerate(value) if item is not BROKEN]


def _packable(value: Any, at: Location) -> Any:
    if (doubt := at.source.doubts.get(at.key)) is not None:
        if doubt.is_refused:
            return at.wrong(doubt.message)
        at.source.warn(at.key, doubt.message)
    try:
        pack(value)
    except Unserializable as error:
        return at.wrong(str(error).removeprefix("value: "))
    return value


# -- values made of values


def or_null(reader: Reader) -> Reader:
    """Read null as None, and any other value by ``reader``."""

    def read(value: Any, at: Location) -> Any:
        return None if value is None else reader.read(value, at)

    return Reader(f"{reader.accepts}, or null", read, reader.written, lambda: nullable(reader.schema()))


def list_of(reader: Reader, example: str) -> Reader:
    """Read a list as a tuple of what ``reader`` makes of its items."""

    def read(value: Any, at: Location) -> Any:
        if not isinstance(value, (list, tuple)):
            return at.wrong(f"expected a list such as {example}, got {got(value)}")
        found = [reader.read(item, at / index) for index, item in enumerate(value) if item is not BROKEN]
        return tuple(item for item in found if item is not BROKEN)

    return Reader(f"list of {reader.accepts}s", read, schema=lambda: listed(reader.schema()))


def set_of(reader: Reader, example: str) -> Reader:
    """Read a list as a frozenset of what ``reader`` makes of its items."""
    items = list_of(reader, example)

    def read(value: Any, at: Location) -> Any:
        found = items.read(value, at)
        return found if found is BROKEN else frozenset(found)

    return Reader(items.accepts, read, schema=items.schema)


def mapping_of(reader: Reader, what: str) -> Reader:
    """Read a mapping whose keys the user chooses.

    ``reader`` finds the key at the end of its location.
    """

    def read(value: Any, at: Location) -> Any:
        if value is None:
            return {}
        if not isinstance(value, dict):
            return at.wrong(f"expected a mapping of {what}, got {got(value)}")
        found = {key: reader.read(item, at / key_name(key, at)) for key, item in value.items() if item is not BROKEN}
        return {key: item for key, item in found.items() if item is not BROKEN}

    return Reader(f"mapping of {what}", read, schema=lambda: named(reader.schema()))


def read_keys(value: Any, at: Location, table: Mapping[str, Reader]) -> dict[str, Any]:
    """Read the keys of a section, each by its reader; an empty section has none.

    Leaves out what cannot be read, and reports it.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        at.wrong(f"expected a mapping with {', '.join(sorted(table))}, got {got(value)}")
        return {}
    found = {}
    for key, item in value.items():
        if key_name(key, at) not in table:
            if isinstance(key, str):
                (at / key).wrong(f"unknown key; {hint(key, table)}")
        elif item is not BROKEN and (read := table[key].read(item, at / key)) is not BROKEN:
            found[key] = read
    return found


def key_name(key: Any, at: Location) -> str:
    """Return the key of a mapping; reports a key that is not text."""
    if isinstance(key, str):
        return key
    (at / got(key)).wrong(f"expected text as the key, got {got(key)}")
    return got(key)
