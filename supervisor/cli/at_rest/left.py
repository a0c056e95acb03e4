"""What a network has left in its state directory, for commands that are given while none runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from ....ipc.address import is_mod_path, mod_id_of
from ...config import Redaction, redacted_in
from ...journal import JournalAtRest, StateDir
from ..client.client import Client
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output

T = TypeVar("T")


def left(client: Client, output: Output, nobody: CliError, read: Callable[[JournalAtRest], T]) -> T:
    """Return what ``read`` finds in the journal of the network that does not run, and say so.

    Raises:
        CliError: ``nobody``, the error of the request, unless it says that no network runs and
            there is a journal; or the journal cannot be read.
    """
    storage = client.target.storage
    if nobody.code is not ExitCode.NO_NETWORK or storage is None or not StateDir(storage).database.exists():
        raise nobody
    file = StateDir(storage).database
    try:
        with JournalAtRest(file) as journal:
            found = read(journal)
    except (sqlite3.Error, OSError) as error:
        text = f"{file} cannot be read: {error}; 'modvisor run' mends a damaged journal"
        raise CliError(ExitCode.FAILED, text) from None
    output.note(f"no network is running for {client.target}; this is what the last one left")
    return found


def crashes(journal: JournalAtRest, mod: str | None) -> list[dict[str, Any]]:
    from ...process import CrashReport

    reports = map(CrashReport.from_dict, journal.crashes(_mod_id(mod)))
    return [report.to_dict() for report in reports if report is not None]


def letter_heads(journal: JournalAtRest, mod: str | None, *, limit: int, before: int | None) -> list[dict[str, Any]]:
    return [asdict(head) for head in journal.letter_heads(_mod_id(mod), limit=limit, before=before)]


def letter(journal: JournalAtRest, number: int, file: Path) -> dict[str, Any]:
    """Return one dead letter, secrets masked as the network file says.

    Raises `CliError` if there is none.
    """
    found = journal.dead_letter(number)
    if found is None:
        raise CliError(ExitCode.FAILED, f"there is no dead letter {number}")
    return Redaction(redacted_in(file)).data(asdict(found))


def last_stats(journal: JournalAtRest) -> dict[str, Any]:
    """Return the figures of the last run, and ``at``, their time. Raises `CliError` if there are none."""
    kept = journal.last_stats()
    if kept is None:
        raise CliError(
            ExitCode.FAILED, "the last network left no figures; journal.stats_every says how often it keeps them"
        )
    at, stats = kept
    for mod_id, reason in journal.quarantines().items():  # newer than the figures, if the network was killed
        if isinstance(mod := stats.get("mods", {}).get(mod_id), dict):
            mod |= {"state": "quarantined", "quarantined": reason}
    return {**stats, "is_running": False, "at": at}


def _mod_id(mod: str | None) -> str | None:
    return mod_id_of(mod) if mod is not None and is_mod_path(mod) else mod
