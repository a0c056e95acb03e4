"""The files of mods (`context.files`), in the journal: so they are in each backup, and a write is whole or not at all."""

from __future__ import annotations

import time
from typing import Any, Protocol

from ...ipc.errors import Code, ModvisorError
from ..config import JournalConfig
from .durable_table import mod_of
from .journal import Journal
from .records import StorageFull
from .store import Store


class FileStore(Protocol):
    """Keeps the files of mods. The workers of a mod share its files.

    Every method raises `ModvisorError`: not now.
    """

    async def put(self, mod_id: str, name: str, data: bytes) -> None:
        """Keep a file. Raises `ModvisorError` (too_large) and `StorageFull`; the earlier one stays then."""
        ...

    async def get(self, mod_id: str, name: str) -> bytes | None: ...

    async def list(self, mod_id: str) -> list[str]:
        """Return the names of a mod's files, sorted."""
        ...

    async def drop(self, mod_id: str, name: str) -> bool:
        """Delete a file. Return whether it was there."""
        ...


def check_file(mod_id: str, name: str, size: int, others: int, their_size: int, config: JournalConfig) -> None:
    """Make sure that a file may be kept beside the others of its mod.

    Raises:
        ModvisorError: too_large. StorageFull: the mod has too many, or they are too large together.
    """
    if size > config.file_bytes:
        text = f"the file {name!r} of mod {mod_id} takes {size} bytes, more than the {config.file_bytes} of journal.file_bytes"
        raise ModvisorError(text, code=Code.TOO_LARGE)
    if others >= config.mod_files:
        raise StorageFull(f"mod {mod_id} has {others} files, and no more are kept of one mod (journal.mod_files)")
    if their_size + size > config.mod_files_bytes:
        raise StorageFull(
            f"the files of mod {mod_id} take {their_size} bytes, and with {size} more they would be over the limit of "
            f"{config.mod_files_bytes} (journal.mod_files_bytes)"
        )


class JournalFiles:
    """A `FileStore` in the journal."""

    def __init__(self, journal: Journal, config: JournalConfig) -> None:
        self._journal = journal
        self._config = config

    async def put(self, mod_id: str, name: str, data: bytes) -> None:
        mod, at = mod_of(mod_id), time.time()
        await self._journal.ask("file", lambda store: _put(store, self._config, mod, name, data, at))

    async def get(self, mod_id: str, name: str) -> bytes | None:
        mod = mod_of(mod_id)
        found = await self._journal.ask("file", lambda store: _get(store, mod, name))
        return None if found is None else found[0]

    async def list(self, mod_id: str) -> list[str]:
        mod = mod_of(mod_id)
        return await self._journal.ask("files", lambda store: _list(store, mod))

    async def drop(self, mod_id: str, name: str) -> bool:
        mod = mod_of(mod_id)
        return await self._journal.ask("dropped file", lambda store: _drop(store, mod, name))


def _put(store: Store, config: JournalConfig, mod: str, name: str, data: bytes, at: float) -> None:
    others, size = store.connection.execute(
        "SELECT count(*), coalesce(sum(size), 0) FROM file WHERE mod = ? AND name <> ?", (mod, name)
    ).fetchone()
    check_file(mod, name, len(data), others, size, config)
    store.connection.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?)", (mod, name, at, len(data), data))


def _get(store: Store, mod: str, name: str) -> Any:
    return store.connection.execute("SELECT data FROM file WHERE mod = ? AND name = ?", (mod, name)).fetchone()


def _list(store: Store, mod: str) -> list[str]:
    rows = store.connection.execute("SELECT name FROM file WHERE mod = ?", (mod,))
    return sorted(name for (name,) in rows)


def _drop(store: Store, mod: str, name: str) -> bool:
    return store.connection.execute("DELETE FROM file WHERE mod = ? AND name = ?", (mod, name)).rowcount > 0
