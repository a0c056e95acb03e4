"""Values given on the command line: JSON in place, from a file (``@file``) or from standard input (``-``)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .exits import CliError, ExitCode


def json_object(text: str, option: str) -> dict[str, Any]:
    """The object that ``text`` is or names.

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
        return " (standard input)", sys.stdin.read()
    if not text.startswith("@"):
        return "", text
    name = text[1:]
    try:
        return f" {name}", Path(name).read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CliError(ExitCode.USAGE, f"{option}: cannot read {name}: {reason}") from None


def variables(assignments: list[str]) -> dict[str, str]:
    """``["A=1", "B=x=y"]`` to ``{"A": "1", "B": "x=y"}``; raises `CliError`."""
    found = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name or not equals:
            raise CliError(ExitCode.USAGE, f"--env {assignment}: expected NAME=VALUE")
        found[name] = value
    return found
