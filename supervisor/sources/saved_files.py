"""Decides what saved files mean for a mod. Pure: `modvisor.supervisor.fleet.commands.autoreload` acts on it.

Files are compared by their contents, not by the kernel's reports: an editor that writes the same
contents again, touches a file, or replaces it by an equal one has changed nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any

from ..config import ModFile

Digests = Mapping[str, bytes]
"""Path -> digest of the contents; a missing file has no entry."""

# Folders without code of the mod, as in the worker's own list (worker/sources.py).
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "tests", "versions"})


def digest(data: bytes) -> bytes:
    """Return the digest by which files are compared."""
    return blake2b(data, digest_size=16).digest()


MAX_FILES = 1000  # a worker reports no more
MAX_NAME = 4096  # characters; no file system allows more
EMPTY = digest(b"")
UNSURE = b""
"""Stands for the digest of a file that may have been saved while it was read; equals no digest."""


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files that a version was loaded from, as its worker reported them.

    Attributes:
        root: the folder of its package; None for a single module or a ``./name`` mod.
        digests: the digests of its modules and its mod.yaml.
    """

    mod_path: str
    root: str | None
    digests: Digests


def source_files(mod_path: str, modules: Mapping[str, Any], file: ModFile | None) -> SourceFiles:
    """Return the files of a snapshot's modules: ``{module: {"path", "source", "is_package"}}``."""
    digests = {entry["path"]: digest(entry["source"]) for entry in modules.values() if _is_file_name(entry["path"])}
    if file is not None:
        digests[file.path] = digest(file.text.encode())
    package = mod_path.partition(":")[0].removesuffix(".mod")
    home = modules.get(package)
    if home is None or not home["is_package"]:
        home = modules.get(f"{package}.mod")
    root = os.path.dirname(home["path"]) if home is not None and _is_file_name(home["path"]) else None
    return SourceFiles(mod_path, root, digests)


class Decision(StrEnum):
    """What to do about a mod whose files were saved."""

    NOTHING = "nothing"
    WAIT = "wait"  # files only vanished: an editor may be about to write them again
    RELOAD = "reload"


def decide(
    running: Digests,
    tried: Digests | None,
    now: Digests,
    hoped: Digests,
    *,
    is_up: bool,
    saved: bool,
    patient: bool = True,
) -> Decision:
    """Decide what to do about a mod with these files.

    Args:
        running: the files that it runs, or ran last; empty if it never ran.
        tried: the files when a reload last failed; None if none failed since the last success.
        now: the files as they are.
        hoped: other files, which may be the modules that were missing when the reload failed.
        is_up: whether it serves, or will serve again by itself.
        saved: whether one of its files was saved since the last decision.
        patient: whether to wait for files that have vanished.
    """
    if is_up and now == running:
        return Decision.NOTHING
    differing = changed_files(running, now) if tried is None else changed_files(tried, {**now, **hoped})
    if differing:
        gone = all(now.get(path, EMPTY) == EMPTY for path in differing)
        return Decision.WAIT if gone and patient else Decision.RELOAD
    return Decision.RELOAD if saved and not is_up else Decision.NOTHING


def changed_files(before: Digests, now: Digests) -> list[str]:
    """Return the files that are new, removed or different."""
    return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def made_of(reported: Digests, before: Digests) -> dict[str, bytes]:
    """Return the files that a version runs: the reported files, and other files before its start.

    The files as they are now would hide what was saved during the start.
    """
    return {**before, **reported}


def files_read(details: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the files that a failed start has read, from the details of the failure."""
    files = details.get("files")
    return tuple(filter(_is_file_name, files))[:MAX_FILES] if isinstance(files, list) else ()


def _is_file_name(path: Any) -> bool:
    """Tell whether this is a usable file name: a worker may report any value."""
    return isinstance(path, str) and os.path.isabs(path) and len(path) <= MAX_NAME and "\0" not in path


def may_be_code(name: str) -> bool:
    """Tell whether a file or folder of this name in a package may be part of its code."""
    stem, ext = os.path.splitext(name)
    return stem.isidentifier() and (ext == ".py" or (not ext and name not in SKIPPED))


def touched_files(paths: Iterable[str], names: Mapping[str, str], folders: frozenset[str]) -> set[str]:
    """Return the files and folders of a mod among the changed ``paths``, by the mod's own names.

    Args:
        names: the path by which a change is reported -> the mod's own path of the file.
        folders: the folders in which every file that may be code belongs to the mod.
    """
    found = set()
    for path in paths:
        folder, name = os.path.split(path)
        if path in names:
            found.add(names[path])
        elif folder in folders and may_be_code(name):
            found.add(path)
    return found
