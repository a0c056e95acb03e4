"""Lists the mods that a network could load, without importing any.

They stand in the network's folder, on its ``mod_paths``, in modvisor itself, or in installed
distributions. A broken mod is listed with its problem, so that it does not hide the other mods.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from typing import Any

from ...ipc.address import InvalidId, check_mod_id, check_mod_path, mod_id_of
from ..config import BUNDLED, NetworkConfig, is_allowed, newest_final_version
from .facts import ModFacts, facts_of
from .home import VERSIONS, has_own, root_of, search_path, version_folders

GROUP = "modvisor.mods"
"""The entry point group in which a distribution lists its mods: ``wiki = "team.mods.wiki"``."""

MAX_DEPTH = 5  # levels of folders below each of mod_paths
MAX_FOLDERS = 5_000  # to look into there: a path that holds a whole disk is a mistake

_SKIP = frozenset({VERSIONS, "__pycache__", "node_modules", "site-packages", "tests"})


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a mod; ``asked`` is the version to request, None if it is the default."""

    facts: ModFacts
    asked: str | None = None

    @property
    def version(self) -> str | None:
        return self.facts.version or self.asked


@dataclass(frozen=True, slots=True)
class Available:
    """A mod that could be loaded.

    Attributes:
        name: the name by which other mods require it.
        source: ``network``, ``mod_paths``, ``bundled`` or ``installed``.
        where: its folder, or the distribution that it belongs to.
        releases: its versions; the first one is loaded if no version is requested.
        problem: why no version can be loaded.
    """

    name: str
    mod_path: str
    source: str
    where: str
    releases: tuple[Release, ...] = ()
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as `modvisor mods` shows it."""
        first = self.releases[0].facts if self.releases else ModFacts()
        problems = [self.problem, *(release.facts.problem for release in self.releases)]
        return {
            "name": self.name,
            "mod_path": self.mod_path,
            "source": self.source,
            "where": self.where,
            "versions": [release.version for release in self.releases],
            "description": first.description,
            "requires": list(map(str, first.requires)),
            "optional": list(map(str, first.optional)),
            "config_schema": first.config_schema,
            "error": "; ".join(dict.fromkeys(filter(None, problems))) or None,
        }


def available(config: NetworkConfig) -> list[Available]:
    """Return every mod that the network of ``config`` could load.

    Of two mods with the same mod_path it returns the first one. It reads files, so call it in a
    thread.
    """
    found: dict[str, Available] = {}
    for mod in (*_local(config.base_dir), *_on_paths(config.mod_paths), *_bundled(), *_installed(config)):
        allowed = is_allowed(config.allowed_mods, mod.mod_path)
        found.setdefault(mod.mod_path, mod if allowed else _refused(mod))
    return list(found.values())


def _refused(mod: Available) -> Available:
    why = "the network's allowed_mods do not include it"
    return Available(mod.name, mod.mod_path, mod.source, mod.where, mod.releases, why)


def _local(base_dir: Path) -> Iterator[Available]:
    """Find the mods in ``mods/`` beside the network's file."""
    folder = base_dir / "mods"
    for entry in _subfolders(folder):
        if entry.startswith((".", "_")):
            continue
        root, mod_path = folder / entry, f"./{entry}"
        try:
            name = mod_id_of(check_mod_path(mod_path))
        except InvalidId as error:
            yield Available(entry, mod_path, "network", str(root), problem=str(error))
        else:
            yield _in_folder(name, mod_path, "network", root)


def _on_paths(folders: Iterable[Path]) -> Iterator[Available]:
    """Find packages with a ``mod.py`` below the folders of ``mod_paths``."""
    left = MAX_FOLDERS
    for base in folders:
        for at, below, files in os.walk(base):
            left -= 1
            parts = Path(at).relative_to(base).parts
            deep = len(parts) >= MAX_DEPTH or left < 0 or "pyvenv.cfg" in files
            below[:] = [] if deep else sorted(name for name in below if name.isidentifier() and name not in _SKIP)
            if parts and ("mod.py" in files or version_folders(Path(at))):
                below[:] = []  # folders inside a mod belong to the mod
                mod_path = ".".join(parts)
                try:
                    name = mod_id_of(mod_path)
                except InvalidId:
                    name = parts[-1]
                yield _in_folder(name, mod_path, "mod_paths", Path(at))


def _bundled() -> Iterator[Available]:
    for mod_path in BUNDLED:
        root = root_of(mod_path, Path(), ())
        if root is not None:
            yield _in_folder(mod_id_of(mod_path), mod_path, "bundled", root)


def _installed(config: NetworkConfig) -> Iterator[Available]:
    """Find the mods that installed distributions list as entry points."""
    search = [*search_path(config), *sys.path]
    for distribution in distributions():
        try:
            points = distribution.entry_points.select(group=GROUP)
        except Exception as error:  # noqa: BLE001 - one distribution's broken metadata must not hide the others
            if (text := distribution.read_text("entry_points.txt")) and GROUP in text:
                label = _label(distribution)
                yield Available(label, label, "installed", label, problem=f"its entry points cannot be read: {error}")
            continue
        for point in points:
            yield _of_entry_point(point, distribution, search)


def _of_entry_point(point: EntryPoint, distribution: Distribution, search: list[str]) -> Available:
    label = _label(distribution)
    mod_path = point.value.replace(" ", "")
    try:
        check_mod_path(mod_path)
        name = check_mod_id(point.name)
    except InvalidId as error:
        return Available(point.name, mod_path, "installed", label, problem=f"its entry point {point.name!r}: {error}")
    root = root_of(mod_path, Path(), search)
    told = ModFacts(distribution.version, distribution.metadata["Summary"] or "")
    if root is None:  # a single module, or behind an import hook: use the distribution's facts
        return Available(name, mod_path, "installed", label, (Release(told),))
    return _in_folder(name, mod_path, "installed", root, label, told)


def _label(distribution: Distribution) -> str:
    return f"{distribution.metadata['Name']} {distribution.version}"


def _in_folder(
    name: str, mod_path: str, source: str, root: Path, where: str | None = None, fallback: ModFacts | None = None
) -> Available:
    where = where or str(root)
    class_name = mod_path.partition(":")[2] or None
    try:
        folders = version_folders(root)
    except OSError as error:
        return Available(name, mod_path, source, where, problem=f"{error.filename}: {error.strerror}")
    others = {asked: Release(facts_of(folder, class_name), asked) for asked, folder in reversed(folders.items())}
    releases: list[Release] = []
    if has_own(root) or not folders:
        releases.append(Release(_completed(facts_of(root, class_name), fallback)))
    elif (newest := newest_final_version(folders)) is not None:
        releases.append(others.pop(newest))
    return Available(name, mod_path, source, where, (*releases, *others.values()))


def _completed(facts: ModFacts, fallback: ModFacts | None) -> ModFacts:
    """Fill in what the distribution says where the mod itself says nothing."""
    if fallback is None:
        return facts
    version, description = facts.version or fallback.version, facts.description or fallback.description
    return replace(facts, version=version, description=description)


def _subfolders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except OSError:
        return []
