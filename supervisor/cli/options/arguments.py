"""Read values of the command line: JSON in place, from a file (``@file``) or from standard input (``-``), and plain ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from ...causes import cause
from ..terminal.exits import CliError, ExitCode


def json_object(text: str, option: str) -> dict[str, Any]:
    """Return the JSON object that ``text`` holds or names.

    Raises:
        CliError: USAGE, naming ``option`` and the place of the mistake.
    """
    where, written = _read(text, option)
    try:
        value = json.loads(written)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise CliError(ExitCode.USAGE, f"{option}{where}: not JSON: {error.msg} ({place})") from None
    if not isinstance(value, dict):
        raise CliError(ExitCode.USAGE, f"{option}{where}: expected a JSON object such as '{{\"key\": 1}}'")
    return value


def _read(text: str, option: str) -> tuple[str, str]:
    if text == "-":
        return " (standard input)", _standard_input(option)
    if not text.startswith("@"):
        return "", text
    name = text[1:]
    try:
        return f" {name}", Path(name).read_text("utf-8")
    except (OSError, ValueError) as error:
        raise CliError(ExitCode.USAGE, f"{option}: cannot read {name}: {cause(error, name)}") from None


def _standard_input(option: str) -> str:
    """Read JSON, which is UTF-8 in every locale."""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except (OSError, ValueError) as error:
        raise CliError(ExitCode.USAGE, f"{option}: cannot read the standard input: {error}") from None


def assigned(assignments: list[str], option: str, form: str = "NAME=VALUE") -> dict[str, str]:
    """Turn ``["A=1", "B=x=y"]`` into ``{"A": "1", "B": "x=y"}``; raises `CliError`."""
    found = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name or not equals:
            raise CliError(ExitCode.USAGE, f"{option} {assignment}: expected {form}")
        found[name] = value
    return found


def plain(text: str) -> Any:
    """Read a value as the network file does: ``0.5``, ``null`` and ``true`` are what they look like, ``512MB`` is text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def letter_ids(texts: list[str]) -> list[int]:
    """Return numbers of dead letters, each once, in the given order; raises `CliError`."""
    for text in texts:
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise CliError(
                ExitCode.USAGE, f"ID {text!r}: expected the number of a dead letter, as 'modvisor dlq ls' shows it"
            )
    return list(dict.fromkeys(map(int, texts)))


def age(text: str, option: str, *, zero: bool = False) -> float:
    """Return seconds from ``90``, ``"90s"`` or ``"12h"``, as the network file reads them; raises `CliError`."""
    from ...config import BROKEN, Location, Source, duration

    source = Source()
    seconds = duration(zero=zero)(plain(text), Location(source, Path()))
    if seconds is BROKEN:
        raise CliError(ExitCode.USAGE, f"{option}: {source.problems[0].message}")
    return seconds
