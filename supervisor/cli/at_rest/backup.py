"""``modvisor backup`` and ``restore``.

The running network copies its journal; when none runs, the command copies it under the lock. A copy
is put back by the command, while no network runs.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ....ipc.errors import ModvisorError
from ...causes import cause
from ...config import AuditConfig
from ...journal import StateDir, StateDirBusy, copy_database, restore_database
from ..client.client import Client
from ..client.progress import counted
from ..terminal.exits import CliError, ExitCode
from .audited import audited, newest_head


def back_up(client: Client, file: Path, *, shown: bool = False) -> dict[str, Any]:
    """Copy the journal to ``file``; returns the document. ``data``: path, bytes, by (``network`` or ``command``).

    Args:
        shown: whether a person may see how far a copy of the command's own is.

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
        return _done(path, _copy_at_rest(StateDir(storage), Path(path), error, shown), by="command")
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


def _copy_at_rest(state: StateDir, target: Path, nobody: CliError, shown: bool) -> int:
    """Copy under the owner's lock, so that no network starts meanwhile."""
    if not state.database.exists():
        raise CliError(ExitCode.NO_NETWORK, f"{nobody}; and none has left a journal at {state.database}")
    try:
        state.acquire()
    except StateDirBusy as error:  # a network that serves no admin API, or has just started
        text = f"{error}; try again, or have the program that runs it call 'await network.backup(path)'"
        raise CliError(ExitCode.ALREADY_RUNNING, text) from None
    except OSError as error:
        raise CliError(ExitCode.FAILED, f"{state.root} cannot be locked: {cause(error, state.root)}") from None
    try:
        with (
            closing(sqlite3.connect(f"{state.database.as_uri()}?mode=rw", uri=True)) as source,
            counted("copying the journal", shown=shown) as moved,
        ):
            return copy_database(source, state.database, target, lambda _, left, total: moved(total - left, total))
    except (ModvisorError, sqlite3.Error, OSError) as error:
        raise CliError(ExitCode.FAILED, f"{state.database} could not be copied: {error}") from None
    finally:
        state.release()


def restore(client: Client, copy: Path, config: Callable[[], AuditConfig]) -> dict[str, Any]:
    """Put a copy in the place of the journal; returns the document. ``data``: path, replaced (a path or null).

    Args:
        config: returns how the audit is kept, which records this.

    Raises:
        CliError: a network runs there, or what is wrong with ``copy``, the state directory or the audit.
    """
    storage = client.target.storage
    if storage is None:
        raise CliError(ExitCode.USAGE, "a copy is put back where the state directory is: use --file, not --url")
    if not copy.is_file():
        raise CliError(ExitCode.FAILED, f"there is no file {copy}")
    state = StateDir(storage)
    try:
        state.acquire()
    except StateDirBusy as error:
        raise CliError(ExitCode.ALREADY_RUNNING, f"{error}; 'modvisor stop' stops it") from None
    except (ModvisorError, OSError) as error:
        raise CliError(ExitCode.FAILED, f"{state.root} cannot be used: {error}") from None
    try:
        former = _restored(copy, state, config())
    except (ModvisorError, sqlite3.Error, OSError) as error:
        raise CliError(ExitCode.FAILED, str(error)) from None
    finally:
        state.release()
    data = {"path": str(state.database), "replaced": None if former is None else str(former)}
    kept = "" if former is None else f"; the former journal is now {former.name}"
    return {"success": True, "message": f"{copy} was put in the place of {state.database}{kept}", "data": data}


def _restored(copy: Path, state: StateDir, config: AuditConfig) -> Path | None:
    """Put the copy in its place. Return where the former journal is now.

    The restored journal may know an older line of the audit than its files hold; the next start goes on behind them.
    """

    async def put_back() -> Path | None:
        return restore_database(copy, state.database)

    sealed = newest_head(copy, state.database)
    return audited(state.root, config, sealed, put_back, "journal.restore", str(copy.absolute()))
