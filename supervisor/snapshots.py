"""The sources of the last good version of each mod, on disk: what a restart after a fault runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio.to_thread

from ..ipc.errors import RemoteProtocolError
from ..ipc.messages import pack, unpack


class SnapshotStore:
    """One file per mod below ``folder``. What a worker reports is checked before it is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(self, mod_id: str, modules: Any) -> None:
        """Keep ``{module: {"path", "source", "is_package"}}``; raises `RemoteProtocolError` or OSError."""
        await anyio.to_thread.run_sync(self._write, mod_id, pack(_checked(modules)))

    async def read(self, mod_id: str) -> dict[str, Any] | None:
        """The kept sources, None if there are none (or the file is damaged: then the working files are used)."""
        return await anyio.to_thread.run_sync(self._read, mod_id)

    async def forget(self, mod_id: str) -> None:
        await anyio.to_thread.run_sync(lambda: self._file(mod_id).unlink(missing_ok=True))

    def _file(self, mod_id: str) -> Path:
        return self._folder / f"{mod_id}.msgpack"

    def _write(self, mod_id: str, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f"{mod_id}.partial"
        partial.write_bytes(data)
        os.replace(partial, self._file(mod_id))

    def _read(self, mod_id: str) -> dict[str, Any] | None:
        try:
            return _checked(unpack(self._file(mod_id).read_bytes()))
        except (OSError, RemoteProtocolError):
            return None


def _checked(modules: Any) -> dict[str, Any]:
    if isinstance(modules, dict):
        for name, entry in modules.items():
            match entry:
                case {"path": str(), "source": bytes(), "is_package": bool()} if isinstance(name, str):
                    continue
            break
        else:
            return modules
    raise RemoteProtocolError("snapshot: expected {module: {path: text, source: bytes, is_package: bool}}")
