"""The file in which an agent keeps its secret: readable by its user alone (mode 0600)."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from .errors import BadUse

MAX_SECRET = 1024


def read_secret(path: Path) -> str | None:
    """Return the secret in the file; None if there is no file.

    Raises:
        BadUse: others can read the file, or it holds no secret.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(MAX_SECRET + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadUse(f"secret file {path}: {error.strerror}") from error
    if mode & 0o077:
        raise BadUse(f"secret file {path}: others may read it (mode {mode:04o}); run: chmod 600 {path}")
    return _secret_in(content, path)


def _secret_in(content: bytes, path: Path) -> str | None:
    text = content.decode("ascii", "replace").strip()
    if len(content) > MAX_SECRET or not text.isprintable() or "\ufffd" in text:
        raise BadUse(f"secret file {path}: expected the secret of an agent, one line of text; choose another file")
    return text or None


def write_secret(path: Path, secret: str) -> None:
    """Write the secret, at once and whole: a reader finds the old one or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        with suppress(FileNotFoundError):
            new.unlink()
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(f"{secret}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise BadUse(f"secret file {path}: cannot be written: {error.strerror}") from error


def remove_secret(path: Path) -> None:
    """Remove the file, if it is there."""
    path.unlink(missing_ok=True)
