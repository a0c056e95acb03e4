"""What a command does to a state directory while no network runs, recorded in the audit as the network would."""

from __future__ import annotations

import asyncio
import getpass
import os
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from ....ipc.errors import ModvisorError
from ...audit import Audit, acting
from ...config import AuditConfig
from ...journal import Journal, JournalAtRest, LastRun, StateDir, StateDirBusy
from ..terminal.exits import CliError, ExitCode

T = TypeVar("T")
Head = tuple[int, bytes]


def who() -> str:
    """Return who runs the command, as the audit names them."""
    return f"command:uid {os.getuid()} ({_user()})"


@contextmanager
def owned_journal(storage: Path, nobody: CliError) -> Iterator[tuple[StateDir, Journal, LastRun]]:
    """Open the journal that a network has left, under the owner's lock.

    Raises:
        CliError: ``nobody``, if there is none; another program has it; or what fails inside.
    """
    state = StateDir(storage)
    if not state.database.exists():
        raise CliError(ExitCode.NO_NETWORK, f"{nobody}; and none has left a journal at {state.database}")
    try:
        state.acquire()
    except StateDirBusy as error:
        raise CliError(ExitCode.ALREADY_RUNNING, f"{error}; it serves no admin API") from None
    except (ModvisorError, OSError) as error:
        raise CliError(ExitCode.FAILED, str(error)) from None
    journal = Journal(state.database)
    try:
        kept = journal.open()
        try:
            yield state, journal, kept
        finally:
            journal.close()
    except (ModvisorError, OSError) as error:
        raise CliError(ExitCode.FAILED, str(error)) from None
    finally:
        state.release()


def audited(
    root: Path,
    config: AuditConfig,
    sealed: Head | None,
    do: Callable[[], Awaitable[T]],
    what: str,
    on: str,
    detail: dict[str, Any] | None = None,
    keep_head: Callable[[int, bytes, float], None] = lambda *_: None,
) -> T:
    """Do something that the audit of this state directory records; returns what ``do`` returns.

    Args:
        sealed: number and seal of the newest line, as the journal knows them.
        keep_head: keeps those in the journal, with their time.

    Raises:
        NotAudited: the mode is strict, and the audit cannot be written. ``do`` was not called.
        Whatever ``do`` raises.
    """

    async def run() -> T:
        audit = Audit(root, lambda: config, keep_head, "modvisor")
        await audit.open(sealed)
        try:
            with acting(who()):
                return await audit.audited(what, on, do, detail)
        finally:
            await audit.close()

    return asyncio.run(run())


def newest_head(*journals: Path) -> Head | None:
    """Return the newest line of the audit that one of these journals knows of. A damaged one knows of none."""
    heads: list[Head] = []
    for file in journals:
        with suppress(sqlite3.Error, OSError), JournalAtRest(file.absolute()) as journal:
            if (head := journal.audit_head()) is not None:
                heads.append(head)
    return max(heads, default=None)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name
        return "?"
