"""The last good version of each mod, its sources and its mod.yaml, on disk: what a restart after a fault runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import anyio.to_thread

from ...ipc.errors import RemoteProtocolError
from ...ipc.messages import pack, unpack
from ..config import ModFile, Requirement
from .home import Home
from .saved_files import SourceFiles, source_files

_NOWHERE = Home()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version that was ready: ``{module: {"path", "source", "is_package"}}``, where it was, and its mod.yaml."""

    modules: dict[str, Any]
    home: Home = _NOWHERE


class _KeptVersion(NamedTuple):
    mod_path: str
    asked: str | None
    snapshot: Snapshot


class SnapshotStore:
    """One file per mod below ``folder``. What a worker reports is checked before it is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(
        self,
        mod_id: str,
        mod_path: str,
        modules: Any,
        home: Home = _NOWHERE,
        asked: str | None = None,
        *,
        on_trial: bool = False,
    ) -> SourceFiles:
        """Keep a version, and tell what it is made of; ``modules`` as a worker reports them.

        Args:
            asked: the version that was asked for.
            on_trial: beside the last good one, which stays what is read until `accept`.

        Raises:
            RemoteProtocolError, OSError
        """
        file = None if home.file is None else [home.file.path, home.file.text]
        requirements = [list(map(str, each)) for each in (home.requires, home.optional)]
        where = [None if home.folder is None else str(home.folder), file, home.by_folder, *requirements]
        data = pack({"mod_path": mod_path, "asked": asked, "modules": _checked(modules), "home": where})
        target = self._trial(mod_id) if on_trial else self._file(mod_id)

        def keep() -> SourceFiles:  # in one go: to change threads costs more than either
            made_of = source_files(mod_path, modules, home.file)
            self._write(target, data)
            return made_of

        return await anyio.to_thread.run_sync(keep)

    async def accept(self, mod_id: str) -> None:
        """The version on trial is the last good one from now on. Raises OSError."""
        await anyio.to_thread.run_sync(os.replace, self._trial(mod_id), self._file(mod_id))

    async def read(self, mod_id: str) -> Snapshot | None:
        """The kept version, None if there is none (or it is damaged: then the working files are used)."""
        kept = await anyio.to_thread.run_sync(self._read, mod_id)
        return None if kept is None else kept.snapshot

    async def is_of(self, mod_id: str, mod_path: str, asked: str | None = None) -> bool:
        """Whether sources of that mod_path, in the version asked for, are kept under the id."""
        kept = await anyio.to_thread.run_sync(self._read, mod_id)
        return kept is not None and (kept.mod_path, kept.asked) == (mod_path, asked)

    async def forget(self, mod_id: str) -> None:
        """Forget all that is kept under an id."""

        def unlink() -> None:
            for file in (self._file(mod_id), self._trial(mod_id)):
                file.unlink(missing_ok=True)

        await anyio.to_thread.run_sync(unlink)

    def _file(self, mod_id: str) -> Path:
        return self._folder / f"{mod_id}.msgpack"

    def _trial(self, mod_id: str) -> Path:
        return self._folder / f"{mod_id}.msgpack.trial"

    def _write(self, file: Path, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.partial")
        partial.write_bytes(data)
        os.replace(partial, file)

    def _read(self, mod_id: str) -> _KeptVersion | None:
        try:
            match unpack(self._file(mod_id).read_bytes()):
                case {"mod_path": str(mod_path), "modules": modules, "home": home, "asked": asked}:
                    return _KeptVersion(mod_path, asked, Snapshot(_checked(modules), _home(home)))
        except (OSError, RemoteProtocolError):
            pass
        return None


def _home(kept: Any) -> Home:
    match kept:
        case [None | str() as folder, None | [str(), str()] as file, bool(by_folder), [*requires], [*optional]]:
            return Home(
                None if folder is None else Path(folder),
                None if file is None else ModFile(*file),
                by_folder,
                tuple(map(Requirement.parse, requires)),
                tuple(map(Requirement.parse, optional)),
            )
    raise RemoteProtocolError("snapshot: expected where the mod was")


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
