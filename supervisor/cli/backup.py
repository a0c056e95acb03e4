"""``modvisor backup``: the running network copies its journal; when none runs, the command copies it under the lock."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ...ipc.errors import ModvisorError
from ..journal import StateDir, StateDirBusy, copy_database
from .client import Client
from .exits import CliError, ExitCode


def back_up(client: Client, file: Path) -> dict[str, Any]:
    """Copy the journal to ``file``; returns the document. ``data``: path, bytes, by (``network`` or ``command``).

    Raises:
        CliError: what the network says, or what is wrong with ``file`` or the state directory.
    """
    path = _absolute(client, file)
    try:
        answer = client.post("/backup", {"path": path})
    except CliError as error:
        storage = client.target.storage
        if error.code is not ExitCode.NO_NETWORK or storage is None:
            raise
        return _done(path, _copy_at_rest(StateDir(storage), Path(path), error), by="command")
    return _done(path, answer["data"]["bytes"], by="network")


def _absolute(client: Client, file: Path) -> str:
    """Make the path absolute: the network works in another folder, and behind a URL perhaps on another machine."""
    if client.target.url is not None and not file.is_absolute():
        raise CliError(
            ExitCode.USAGE,
            f"FILE {file}: with --url the network writes it on its own machine; give an absolute path there",
        )
    return os.path.abspath(file)


def _done(path: str, size: int, *, by: str) -> dict[str, Any]:
    data = {"path": path, "bytes": size, "by": by}
    return {"success": True, "message": f"the journal was copied to {path}", "data": data}


def _copy_at_rest(state: StateDir, target: Path, nobody: CliError) -> int:
    """Copy under the owner's lock, so that no network starts meanwhile."""
    if not state.database.exists():
        raise CliError(ExitCode.NO_NETWORK, f"{nobody}; and none has left a journal at {state.database}")
    try:
        state.acquire()
    except StateDirBusy as error:  # a network that serves no admin API, or has just started
        text = f"{error}; try again, or have the program that runs it call 'await network.backup(path)'"
        raise CliError(ExitCode.ALREADY_RUNNING, text) from None
    except OSError as error:
        raise CliError(ExitCode.FAILED, f"{state.root} cannot be locked: {error.strerror}") from None
    try:
        with closing(sqlite3.connect(f"{state.database.as_uri()}?mode=rw", uri=True)) as source:
            return copy_database(source, state.database, target, lambda *_: None)
    except (ModvisorError, sqlite3.Error, OSError) as error:
        raise CliError(ExitCode.FAILED, f"{state.database} could not be copied: {error}") from None
    finally:
        state.release()
