"""What saved files mean for a mod: pure decisions. `modvisor.supervisor.fleet.autoreload` acts on them.

Files are compared by their contents, not by what the kernel tells of them: an editor that writes what was there before,
touches a file, or replaces it by another of the same contents has changed nothing.
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
"""Path to digest of the contents; a file that is not there is not in it."""

# As the worker's own listing of a package (worker/sources.py): what is below these is not the mod's code.
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "tests", "versions"})


def digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


MAX_FILES = 1000  # as many as a worker reports
MAX_NAME = 4096  # characters; no file system takes more
EMPTY = digest(b"")
UNSURE = b""
"""In place of the digest of a file that may have been saved while it was read: equal to no other."""


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """What a version was made of, as its worker reported it.

    Attributes:
        root: the folder of its package, None for a single module or a ``./name`` mod.
        digests: of its modules, and of its mod.yaml.
    """

    mod_path: str
    root: str | None
    digests: Digests


def source_files(mod_path: str, modules: Mapping[str, Any], file: ModFile | None) -> SourceFiles:
    """Of the modules of a snapshot: ``{module: {"path", "source", "is_package"}}``."""
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
    NOTHING = "nothing"
    WAIT = "wait"  # files have only vanished: whoever removes one to write it anew is about to do so
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
    """What is to be done about a mod with these files.

    Args:
        running: what it runs, or ran last; empty if it never did.
        tried: the files when a reload last failed, None if none did since it runs what it runs.
        now: the files as they are.
        hoped: what is none of its files, and may be what was missing when the reload failed.
        is_up: it serves, or is on its way back by itself.
        saved: somebody has saved one of its files since the last decision.
        patient: wait for files that have vanished.
    """
    if is_up and now == running:
        return Decision.NOTHING
    differing = changed_files(running, now) if tried is None else changed_files(tried, {**now, **hoped})
    if differing:
        gone = all(now.get(path, EMPTY) == EMPTY for path in differing)
        return Decision.WAIT if gone and patient else Decision.RELOAD
    return Decision.RELOAD if saved and not is_up else Decision.NOTHING


def changed_files(before: Digests, now: Digests) -> list[str]:
    """The files that are new, gone, or other than they were."""
    return sorted(path for path in {*before, *now} if before.get(path) != now.get(path))


def made_of(reported: Digests, before: Digests) -> dict[str, bytes]:
    """What a version runs: as it reported, and as files were ``before`` its start that it has not reported.

    Not as they are by now: what was saved during the start is to be seen as a change.
    """
    return {**before, **reported}


def files_read(details: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that a start which failed has read, of the details of the failure."""
    files = details.get("files")
    return tuple(filter(_is_file_name, files))[:MAX_FILES] if isinstance(files, list) else ()


def _is_file_name(path: Any) -> bool:
    """What a worker calls its files may be anything; what is none would be an error of ours later on."""
    return isinstance(path, str) and os.path.isabs(path) and len(path) <= MAX_NAME and "\0" not in path


def may_be_code(name: str) -> bool:
    """Whether a file or folder of this name in a package's folder may be part of its code."""
    stem, ext = os.path.splitext(name)
    return stem.isidentifier() and (ext == ".py" or (not ext and name not in SKIPPED))


def touched_files(paths: Iterable[str], names: Mapping[str, str], folders: frozenset[str]) -> set[str]:
    """The files and folders of a mod among those that changed, by the mod's own names for them.

    Args:
        names: of its files by the names under which their changes are told.
        folders: where anything that may be code is the mod's.
    """
    found = set()
    for path in paths:
        folder, name = os.path.split(path)
        if path in names:
            found.add(names[path])
        elif folder in folders and may_be_code(name):
            found.add(path)
    return found
