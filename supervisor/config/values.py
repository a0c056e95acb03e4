"""Readers of configuration values: each checks one value, says what was expected, and makes what the program works with.

A reader takes a value and its `Location`. A mistake it reports to the place, and returns `BROKEN`, so that its caller goes on
and all mistakes are found in one go. Readers of lists, mappings and sections are built from readers of their parts.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement

from ...ipc.errors import ModvisorError, Unserializable
from ...ipc.messages import pack
from .versions import Requirement, parse_version
from .yaml_source import BROKEN, MAX_DEPTH, ConfigError, Key, Source, shorten

AUTO, OFF = "auto", "off"

MAX_COUNT = 1_000_000_000  # more than any count here can mean, and a number every system call takes
MAX_SIZE = 2**63 - 1  # what a resource limit can hold

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?(ms|s|m|h)")
# Decimal: as floats, 700ms is not 0.7.
_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([kmgt]?b|[kmgt]ib)", re.IGNORECASE | re.ASCII)
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Location:
    """Where a value stands, and the folder its relative paths start from."""

    source: Source
    base_dir: Path
    key: Key = ()

    def __truediv__(self, part: str | int) -> Location:
        """The place of a part: of a mapping's key, of a list's item."""
        return Location(self.source, self.base_dir, (*self.key, part))

    def wrong(self, message: str) -> Any:
        """Report a mistake here; returns `BROKEN`."""
        return self.source.report(self.key, message)


Reader = Callable[[Any, Location], Any]


@dataclass(frozen=True, slots=True)
class EnvValue:
    """A value given literally, or the environment variable or file it is read from. Exactly one of the three is set."""

    literal: str | None = field(default=None, repr=False)  # may be a secret, and reprs end up in logs
    variable: str | None = None
    file: Path | None = None

    def resolve(self) -> str:
        """The value now; of a file its text, without the line break at its end.

        Raises:
            ModvisorError: code ``bad_config``; names the variable or file that is missing.
        """
        if self.literal is not None:
            return self.literal
        if self.variable is not None:
            if (value := os.environ.get(self.variable)) is None:
                raise _unresolved(f"the environment variable {self.variable} is not set; set it before the start")
            return value
        try:
            return Path(self.file or "").read_text("utf-8").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise _unresolved(f"cannot read the file {self.file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise _unresolved(f"the file {self.file} is not UTF-8 text") from None


def _unresolved(message: str) -> ModvisorError:
    return ModvisorError(message, code=ConfigError.code)


# -- words of messages


def got(value: Any) -> str:
    """A wrong value, in the words of the file."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"  # Python refuses to write out an integer of more than 4300 digits
    if isinstance(value, (str, int, float)):
        return shorten(repr(value))
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"


def hint(word: Any, known: Iterable[str]) -> str:
    """The end of a message about a word that is not known."""
    names = sorted(known)
    # The length: comparing takes time in proportion to it, and nobody misspells 'queue' in a thousand letters.
    close = difflib.get_close_matches(word, names, 1) if isinstance(word, str) and len(word) < 100 else []
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(names) or 'none'}"


# -- single values


def text(value: Any, at: Location) -> Any:
    """Text that is not blank."""
    if isinstance(value, (bool, int, float)):
        return at.wrong(f"expected text, got {got(value)}; put it in quotes")
    if not isinstance(value, str):
        return at.wrong(f"expected text, got {got(value)}")
    return usable(value, at) if value.strip() else at.wrong("must not be empty")


def usable(value: str, at: Location) -> Any:
    if _UNUSABLE.search(value):
        return at.wrong("contains a NUL or half a surrogate pair, which no path, variable or message can carry")
    return value


def module(value: Any, at: Location) -> Any:
    """The name of a Python module."""
    found = text(value, at)
    if found is BROKEN or all(part.isidentifier() for part in found.split(".")):
        return found
    return at.wrong(f"expected the name of a module, such as numpy or pandas.io, got {got(value)}")


def flag(value: Any, at: Location) -> Any:
    return value if isinstance(value, bool) else at.wrong(f"expected true or false, got {got(value)}")


def whole(low: int, high: int = MAX_COUNT) -> Reader:
    """A whole number; true and false are none."""

    def read(value: Any, at: Location) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        return at.wrong(f"expected a whole number from {low} to {high}, got {got(value)}")

    return read


def number(low: float, high: float) -> Reader:
    """A number, whole or not; true and false are none."""

    def read(value: Any, at: Location) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        return at.wrong(f"expected a number from {low:g} to {high:g}, got {got(value)}")

    return read


def duration(*, zero: bool = False) -> Reader:
    """Seconds as float, from a number or ``"500ms"``, ``"30s"``, ``"2m"``, ``"1h"``."""

    def read(value: Any, at: Location) -> Any:
        seconds = _in_seconds(value)
        if seconds is None:
            return at.wrong(f"expected seconds or a duration such as '30s', got {got(value)}")
        if not 0 <= seconds <= MAX_COUNT or (seconds == 0 and not zero):
            least = "0 seconds or more" if zero else "more than 0 seconds"
            return at.wrong(f"expected {least}, at most {MAX_COUNT}, got {got(value)}")
        return float(seconds)

    return read


def _in_seconds(value: Any) -> float | None:
    if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
        return float(Decimal(match[1]) * _SECONDS[match[2]])
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return None if isinstance(value, float) and math.isnan(value) else value


def size(low: int) -> Reader:
    """Bytes as int, from a whole number or ``"512MB"`` (a million each), ``"512MiB"`` (1024 * 1024 each)."""

    def read(value: Any, at: Location) -> Any:
        if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
            count = int(Decimal(match[1]) * _BYTES[match[2].lower()])
        elif isinstance(value, int) and not isinstance(value, bool):
            count = value
        else:
            return at.wrong(f"expected a size such as '512MB', got {got(value)}")
        if low <= count <= MAX_SIZE:
            return count
        return at.wrong(f"expected {low} bytes or more, got {got(value)}; give a unit, as in '512MB'")

    return read


def one_of(*words: str) -> Reader:
    def read(value: Any, at: Location) -> Any:
        if isinstance(value, str) and value in words:
            return value
        return at.wrong(f"expected one of {', '.join(words)}, got {got(value)}")

    return read


def auto_or_off(value: Any, at: Location) -> Any:
    """`AUTO` or `OFF`. YAML reads the bare word off as false."""
    if value is False or value == OFF:
        return OFF
    return AUTO if value == AUTO else at.wrong(f"expected {AUTO} or {OFF}, got {got(value)}")


def absolute_path(value: Any, at: Location) -> Any:
    name = text(value, at)
    return name if name is BROKEN else absolute(at.base_dir, name)


def folder(value: Any, at: Location) -> Any:
    found = absolute_path(value, at)
    return found if found is BROKEN or os.path.isdir(found) else at.wrong(f"the folder {found} does not exist")


def interpreter(value: Any, at: Location) -> Any:
    """A Python to run: its path, the folder of a virtual environment, or a command on PATH. Not yet tried."""
    name = text(value, at)
    if name is BROKEN:
        return BROKEN
    found = absolute(at.base_dir, name)
    if found.is_dir():
        python = found / "bin" / "python"
        if python.exists():
            return python
        return at.wrong(
            f"{found} has no bin/python, so it is no virtual environment; 'python3 -m venv {found}' makes one"
        )
    if not found.exists() and os.sep not in name and (command := shutil.which(name)) is not None:
        return Path(command)
    if os.access(found, os.X_OK):
        return found
    what = "is not executable" if found.exists() else "does not exist"
    return at.wrong(f"{found} {what}; give a Python (3.11 or newer) or the folder of a virtual environment")


def version(value: Any, at: Location) -> Any:
    """A version of PEP 440, as it is written: ``1.10`` is not ``1.1``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = at.source.texts.get(at.key, value)
    name = text(value, at)
    if name is not BROKEN and parse_version(name) is None:
        return at.wrong(f"expected a version such as '2.0' or '2.1rc1' (PEP 440), got {got(name)}")
    return name


def requirement(value: Any, at: Location) -> Any:
    try:
        return Requirement.parse(value)
    except InvalidRequirement as error:
        return at.wrong(str(error))


def absolute(base: Path, name: str) -> Path:
    """Not ``Path.resolve``: a link stays what the user named."""
    return Path(os.path.abspath(base / os.path.expanduser(name)))


def plain(value: Any, at: Location) -> Any:
    """A mapping of free-form data that a message can carry to a worker, copied. Left empty, it has no keys."""
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
        return {key: _copy(item, at / name(key, at), above) for key, item in value.items() if item is not BROKEN}
    return [_copy(item, at / index, above) for index, item in enumerate(value) if item is not BROKEN]


def _packable(value: Any, at: Location) -> Any:
    try:
        pack(value)
    except Unserializable as error:
        return at.wrong(str(error).removeprefix("value: "))
    return value


# -- values made of values


def or_null(reader: Reader) -> Reader:
    return lambda value, at: None if value is None else reader(value, at)


def list_of(reader: Reader, example: str) -> Reader:
    """A tuple of what ``reader`` makes of the items."""

    def read(value: Any, at: Location) -> Any:
        if not isinstance(value, (list, tuple)):
            return at.wrong(f"expected a list such as {example}, got {got(value)}")
        found = [reader(item, at / index) for index, item in enumerate(value) if item is not BROKEN]
        return tuple(item for item in found if item is not BROKEN)

    return read


def set_of(reader: Reader, example: str) -> Reader:
    items = list_of(reader, example)

    def read(value: Any, at: Location) -> Any:
        found = items(value, at)
        return found if found is BROKEN else frozenset(found)

    return read


def mapping_of(reader: Reader, what: str) -> Reader:
    """A mapping whose keys the user chooses; ``reader`` finds the key at the end of its place."""

    def read(value: Any, at: Location) -> Any:
        if value is None:
            return {}
        if not isinstance(value, dict):
            return at.wrong(f"expected a mapping of {what}, got {got(value)}")
        found = {key: reader(item, at / name(key, at)) for key, item in value.items() if item is not BROKEN}
        return {key: item for key, item in found.items() if item is not BROKEN}

    return read


def section(kind: Callable[..., Any], table: Mapping[str, Reader]) -> Reader:
    """A dataclass whose fields are the keys of ``table``."""
    return lambda value, at: kind(**keys(value, at, table))


def keys(value: Any, at: Location, table: Mapping[str, Reader]) -> dict[str, Any]:
    """Those keys of a section that could be read; everything else is reported. A section left empty has none."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        at.wrong(f"expected a mapping with {', '.join(sorted(table))}, got {got(value)}")
        return {}
    found = {}
    for key, item in value.items():
        if name(key, at) not in table:
            if isinstance(key, str):
                (at / key).wrong(f"unknown key; {hint(key, table)}")
        elif item is not BROKEN and (read := table[key](item, at / key)) is not BROKEN:
            found[key] = read
    return found


def name(key: Any, at: Location) -> str:
    """The key of a mapping, reported unless it is text."""
    if isinstance(key, str):
        return key
    (at / got(key)).wrong(f"keys are text, got {got(key)}")
    return got(key)


# -- values from elsewhere, and secrets: messages about them do not repeat what was found


def variable(value: Any, at: Location) -> Any:
    if not _VARIABLE.fullmatch(str(at.key[-1])):
        return at.wrong("the name of a variable has letters, digits and '_' only, and no digit in front")
    return env_value(value, at)


def env_value(value: Any, at: Location) -> Any:
    if isinstance(value, dict) and value:
        return keys(value, at, _FROM).get("from", BROKEN)
    if isinstance(value, str):
        clean = usable(value, at)
        return clean if clean is BROKEN else EnvValue(literal=clean)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return EnvValue(literal=at.source.texts.get(at.key) or str(value))
    quote = "; put it in quotes" if isinstance(value, bool) else ""
    return at.wrong(
        f"expected text, a number, {{from: 'env:VARIABLE'}} or {{from: 'file:PATH'}}, got {got(value)}{quote}"
    )


def _env_source(value: Any, at: Location) -> Any:
    kind, _, where = value.partition(":") if isinstance(value, str) else ("", "", "")
    if kind == "env" and _VARIABLE.fullmatch(where):
        return EnvValue(variable=where)
    if kind == "file" and where:
        clean = absolute_path(where, at)
        return clean if clean is BROKEN else EnvValue(file=clean)
    return at.wrong("expected 'env:VARIABLE' or 'file:PATH'")


def resolved(value: EnvValue, at: Location) -> str:
    try:
        return value.resolve()
    except ModvisorError as error:
        return at.wrong(str(error))


def token(value: Any, at: Location) -> Any:
    found = env_value(value, at)
    if found is not BROKEN and resolved(found, at) == "":  # would let in whoever sends none
        return at.wrong("the token is empty; give one that cannot be guessed, or leave the key out")
    return found


def password_hash(value: Any, at: Location) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        return value.lower()
    return at.wrong(
        "expected the SHA-256 of the password, 64 hexadecimal digits; `printf %s PASSWORD | sha256sum` makes it"
    )


_FROM: dict[str, Reader] = {"from": _env_source}
