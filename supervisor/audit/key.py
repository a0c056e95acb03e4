"""The key of the audit: made at the first start, or given by the operator."""

from __future__ import annotations

import logging
import os
import secrets
import stat
from pathlib import Path

from ...ipc.errors import Code, ModvisorError
from ..causes import cause

logger = logging.getLogger("modvisor.audit")

SHORTEST = 32  # characters


class NoKey(ModvisorError):
    """The key of the audit cannot be used. The message names the file and the next step."""

    code = Code.START_FAILED


def read_key(file: Path) -> bytes:
    """Return the key in a file.

    Raises:
        NoKey: there is none, or it is too short.
    """
    try:
        key = file.read_bytes().strip()
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        why = cause(error, file)
        raise NoKey(f"the key of the audit cannot be read from {file}: {why}{_how_to_make(file)}") from None
    if len(key) < SHORTEST:
        text = f"the key of the audit in {file} has {len(key)} characters; at least {SHORTEST} are needed"
        raise NoKey(text + _how_to_make(file))
    if mode & 0o077:
        logger.warning("others can read the key of the audit, and change the audit unseen; correct it with: chmod go= %s",
                       file)  # fmt: skip
    return key


def made_key(file: Path) -> bytes:
    """Return the key in a file; make it if there is no file. Raises `NoKey`, OSError."""
    if not file.exists():
        _write(file, secrets.token_hex(32).encode())
    return read_key(file)


def _write(file: Path, key: bytes) -> None:
    """Write the file whole or not at all."""
    part = file.with_name(f"{file.name}.new")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as written:
        written.write(key + b"\n")
        written.flush()
        os.fsync(descriptor)
    part.replace(file)


def _how_to_make(file: Path) -> str:
    return f"; make one with: (umask 077; openssl rand -hex 32 > {file})"
