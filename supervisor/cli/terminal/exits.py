"""How a command ends: exit codes for scripts, and the exception that carries an expected failure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any


class ExitCode(IntEnum):
    """The exit code of a command. Scripts compare these; they do not change."""

    DONE = 0
    FAILED = 1  # the network answered, and the answer was a failure
    USAGE = 2  # unknown option, missing argument, a value that cannot be read
    NO_NETWORK = 3  # no network runs where the command looked
    BAD_CONFIG = 4  # the network file, or an entry given on the command line, has mistakes
    INTERRUPTED = 5  # Ctrl-C
    NOT_ALLOWED = 6  # the admin token is missing or wrong, or the network's file does not allow it
    ALREADY_RUNNING = 7  # another network owns the state directory
    START_FAILED = 8  # the network could not start: a required mod failed, the port is taken
    NO_ANSWER = 9  # the network did not answer in time, or went away meanwhile


class CliError(Exception):
    """An expected failure: one message for people, one exit code and one JSON document for programs.

    Args:
        response: the network's own failed response, if it gave one; printed as it is with ``--json``.
    """

    def __init__(self, code: ExitCode, message: str, response: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self._response = response

    def with_hint(self, hint: str) -> CliError:
        """Return the same failure, with a hint for people at the end of its message."""
        return CliError(self.code, f"{self}{hint}", self._response)

    @property
    def error(self) -> str | None:
        """The code that the network gave; None if it has not answered."""
        return None if self._response is None else _code(self._response)

    def document(self) -> dict[str, Any]:
        """Return what ``--json`` prints: always a failed response, with the code in ``data.error``."""
        if self._response is not None:
            return self._response
        return {"success": False, "message": str(self), "data": {"error": self.code.name.lower()}}


def mistakes(path: Path, error: Any) -> str:
    """Return a text with all mistakes of a network file, one per line."""
    count = len(error.problems)
    return f"{path} has {count} mistake{'s' if count > 1 else ''}:\n{error}"


def request_failed(response: dict[str, Any]) -> CliError:
    """Return the error for an event or command that was processed and failed."""
    return CliError(ExitCode.FAILED, _sentence(response), response)


def request_refused(response: dict[str, Any], also: Mapping[str, ExitCode] | None = None, hint: str = "") -> CliError:
    """Return the error for a request that the network itself refused.

    Args:
        also: exit codes of further codes.
        hint: what to do, for people.
    """
    codes = {**_REFUSALS, **(also or {})}
    return CliError(codes.get(str(_code(response)), ExitCode.FAILED), _sentence(response, hint), response)


_REFUSALS = {
    "bad_config": ExitCode.BAD_CONFIG,
    "forbidden": ExitCode.NOT_ALLOWED,
    "unauthenticated": ExitCode.NOT_ALLOWED,
}


def _sentence(response: dict[str, Any], hint: str = "") -> str:
    message, code = str(response.get("message") or "the request failed") + hint, _code(response)
    return f"{message} ({code})" if code else message


def _code(response: dict[str, Any]) -> Any:
    data = response.get("data")
    return data.get("error") if isinstance(data, dict) else None
