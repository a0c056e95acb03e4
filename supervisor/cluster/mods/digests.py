"""Digests by which nodes compare what they run: the code of a mod, and the mods of the network file.

The files of a mod are named by their place below its folder, and modules outside it by their names,
because the folders may lie elsewhere on another node.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ...config import MOD_FILE_NAME, ModConfig, entry_hash
from ...sources import MAX_FILES, SKIPPED, Home, digest, may_be_code, module_file

_MODULE = "module:"


class Code(NamedTuple):
    """The code of one mod.

    Attributes:
        digest: SHA-256 in hex.
        files: what it is of.
        asked: the path and the version by which the mod was asked for.
    """

    digest: str
    files: tuple[str, ...]
    asked: str

    @property
    def short(self) -> str:
        """The digest as people compare it."""
        return self.digest[:12]

    def to_plain(self) -> list[Any]:
        return [self.digest, list(self.files), self.asked]

    @classmethod
    def from_plain(cls, data: Any) -> Code | None:
        return None if data is None else cls(str(data[0]), tuple(data[1]), str(data[2]))


def asked_of(config: ModConfig) -> str:
    """Return the path and the version that a config asks for."""
    asked = config.as_asked
    return asked.path if asked.version is None else f"{asked.path} {asked.version}"


def code_that_runs(mod_path: str, modules: Mapping[str, Any], home: Home, version: str | None) -> Code | None:
    """Return the code of a worker from the modules that it reports; None if it reports none."""
    if not modules:
        return None
    package = mod_path.partition(":")[0]
    own = modules.get(package)
    folder = home.folder or (None if own is None else os.path.dirname(own["path"]))
    named = {_name(name, each["path"], folder): digest(each["source"]) for name, each in modules.items()}
    if home.file is not None:
        named[MOD_FILE_NAME] = digest(home.file.text.encode())
    return _code(named, mod_path if version is None else f"{mod_path} {version}")


def _name(module: str, path: str, folder: Path | str | None) -> str:
    if folder is not None and path.startswith(f"{folder}{os.sep}"):
        return path[len(str(folder)) + 1 :]
    return _MODULE + module


def _code(named: Mapping[str, bytes], asked: str) -> Code:
    made = sha256()
    for name in sorted(named):
        made.update(name.encode() + b"\0" + named[name])
    return Code(made.hexdigest(), tuple(sorted(named)), asked)


def code_of_files(config: ModConfig, home: Home, search: Sequence[str], files: Iterable[str] | None) -> Code | None:
    """Return the code that a node has on its disk. Call it in a thread.

    Args:
        files: which files; None: all below the mod's folder that may be code. A missing one has no share.

    Returns:
        None if the files cannot be compared: the mod has no folder, or a module cannot be found.
    """
    single = None if home.folder is not None else module_file(config.path, [*map(str, config.paths), *search])
    folder = home.folder or (None if single is None else single.parent)
    if folder is None:
        return None
    if files is None:
        files = _all_below(folder) if single is None else [single.name]
    named: dict[str, bytes] = {}
    for name in files:
        file = _module(name, [*map(str, config.paths), *search]) if name.startswith(_MODULE) else folder / name
        if file is None:
            return None
        if file.is_file():
            named[name] = digest(file.read_bytes())
    if home.file is not None:
        named[MOD_FILE_NAME] = digest(home.file.text.encode())
    return _code(named, asked_of(config))


def _all_below(folder: Path) -> list[str]:
    found: list[str] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in SKIPPED and may_be_code(name))
        found += [os.path.relpath(os.path.join(root, name), folder) for name in names if name.endswith(".py")]
        if len(found) > MAX_FILES:
            break
    return sorted(found)[:MAX_FILES]


def _module(name: str, search: Sequence[str]) -> Path | None:
    module = name.removeprefix(_MODULE)
    packages = (Path(entry, *module.split("."), "__init__.py") for entry in search)
    return module_file(module, search) or next((file for file in packages if file.is_file()), None)


# -- the mods of the network file


def digests_of_entries(entries: Mapping[str, ModConfig]) -> dict[str, str]:
    """Return a digest of each mod of a network file, by id, in its order."""
    return {mod_id: entry_hash(entry) for mod_id, entry in entries.items()}


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return what differs between the mods of two network files, in words."""
    found = [f"only this node's file has mod {mod_id}" for mod_id in ours if mod_id not in theirs]
    found += [f"only the other nodes' file has mod {mod_id}" for mod_id in theirs if mod_id not in ours]
    found += [
        f"the entry of mod {mod_id} differs" for mod_id in ours if theirs.get(mod_id, ours[mod_id]) != ours[mod_id]
    ]
    if not found and list(ours) != list(theirs):
        found.append("the mods are in another order")
    return found
