"""The command that prints what a network file stores of a password."""

from __future__ import annotations

import hashlib
import sys
from getpass import getpass
from typing import Annotated

import typer

from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output

MEMORY, PASSES, LANES = 19 * 1024, 2, 1
"""KiB, rounds and threads of Argon2id, as OWASP recommends them: a check takes some 20 ms of a core. More
would cost guessers more, and the network, which checks what strangers send."""


def hash_password(
    settings: Settings,
    sha256: Annotated[
        bool, typer.Option("--hashed", help="What is typed or read is the password's SHA-256, as older files have it.")
    ] = False,
) -> None:
    """Print the hash of a group's password, for its password_hash in the network file.

    The password is asked for twice on a terminal, and read from standard input otherwise.
    """
    given = _asked() if _is_terminal() else _read()
    found = hashed(_checked_sha256(given) if sha256 else sent(given))
    Output(as_json=settings.json).document({"password_hash": found}, lambda: print(found))


def hashed(sha256: str) -> str:
    """Return argon2id over the SHA-256 of a password."""
    from argon2 import PasswordHasher  # 10 ms, which no other command has to wait for

    return PasswordHasher(time_cost=PASSES, memory_cost=MEMORY, parallelism=LANES).hash(sha256)


def sent(password: str) -> str:
    """Return what agents send of a password."""
    return hashlib.sha256(password.encode("utf-8", "surrogateescape")).hexdigest()


def _checked_sha256(text: str) -> str:
    from ...config import is_sha256

    if not is_sha256(text):
        raise CliError(ExitCode.USAGE, "--hashed: expected 64 hexadecimal digits")
    return text.lower()


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _asked() -> str:
    try:
        password = getpass("Password: ")
        again = getpass("Again: ")
    except EOFError:
        raise CliError(ExitCode.USAGE, "no password was given") from None
    if password != again:
        raise CliError(ExitCode.USAGE, "the two passwords differ; try again")
    return _checked(password)


def _read() -> str:
    """Read standard input without its line break, as `printf %s PASSWORD | sha256sum` hashes it."""
    return _checked(sys.stdin.buffer.read().decode("utf-8", "surrogateescape").rstrip("\r\n"))


def _checked(password: str) -> str:
    if not password:
        raise CliError(
            ExitCode.USAGE, "the password is empty; type it, or send it: printf %s PASSWORD | modvisor hash-password"
        )
    return password
