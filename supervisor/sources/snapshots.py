"""Keeps the last good version of each mod on disk: its sources and its mod.yaml.

A restart after a fault runs this version, not the working files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ...ipc.errors import RemoteProtocolError
from ...ipc.messages import pack, unpack
from ..config import ModFile, Requirement
from ..process import is_shortage, reserve
from .home import Home
from .reading import in_thread
from .saved_files import SourceFiles, source_files

_NOWHERE = Home()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A version that was ready: ``{module: {"path", "source", "is_package"}}``, and its place."""

    modules: dict[str, Any]
    home: Home = _NOWHERE


class _KeptVersion(NamedTuple):
    mod_path: str
    asked: str | None
    snapshot: Snapshot


class SnapshotStore:
    """Keeps one file per mod below ``folder``; checks what a worker reports before it keeps it."""

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
        """Keep a version, and return the files that it was loaded from.

        Args:
            modules: the modules as the worker reports them.
            asked: the requested version.
            on_trial: keep it beside the last good version, which `read` returns until `accept`.

        Raises:
            RemoteProtocolError: the modules are malformed.
            OSError: the file cannot be written.
        """
        file = None if home.file is None else [home.file.path, home.file.text]
        requirements = [list(map(str, each)) for each in (home.requires, home.optional)]
        where = [None if home.folder is None else str(home.folder), file, home.by_folder, *requirements]
        data = pack({"mod_path": mod_path, "asked": asked, "modules": _checked(modules), "home": where})
        target = self._trial(mod_id) if on_trial else self._file(mod_id)

        def keep() -> SourceFiles:  # in one call: a change of threads costs more than either step
            made_of = source_files(mod_path, modules, home.file)
            self._write(target, data)
            return made_of

        return await in_thread(keep)

    async def accept(self, mod_id: str) -> None:
        """Make the version on trial the last good one; raises `OSError`."""
        await in_thread(os.replace, self._trial(mod_id), self._file(mod_id))

    async def read(self, mod_id: str) -> Snapshot | None:
        """Return the last good version; None if there is none, or if its file is damaged.

        Raises:
            OSError: the supervisor has no descriptor left to read it.
        """
        kept = await in_thread(self._read, mod_id)
        return None if kept is None else kept.snapshot

    async def is_of(self, mod_id: str, mod_path: str, asked: str | None = None) -> bool:
        """Tell whether the id's snapshot is of this mod_path and this requested version."""
        kept = await in_thread(self._read, mod_id)
        return kept is not None and (kept.mod_path, kept.asked) == (mod_path, asked)

    async def forget(self, mod_id: str) -> None:
        """Delete all snapshots of an id."""

        def unlink() -> None:
            for file in (self._file(mod_id), self._trial(mod_id)):
                file.unlink(missing_ok=True)

        await in_thread(unlink)

    def _file(self, mod_id: str) -> Path:
        return self._folder / f"{mod_id}.msgpack"

    def _trial(self, mod_id: str) -> Path:
        return self._folder / f"{mod_id}.msgpack.trial"

    def _write(self, file: Path, data: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.partial")
        with open(partial, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
            os.fchmod(opened.fileno(), 0o600)
            opened.write(data)
        os.replace(partial, file)

    def _read(self, mod_id: str) -> _KeptVersion | None:
        try:
            match unpack(reserve.with_spare(self._file(mod_id).read_bytes)):
                case {"mod_path": str(mod_path), "modules": modules, "home": home, "asked": asked}:
                    return _KeptVersion(mod_path, asked, Snapshot(_checked(modules), _home(home)))
        except RemoteProtocolError:
            pass
        except OSError as error:
            if is_shortage(error):  # the working files must not run in its place
                raise
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
    raise RemoteProtocolError("snapshot: expected the place of the mod")


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
