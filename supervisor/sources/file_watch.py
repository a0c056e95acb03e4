"""The files of a mod as they are on disk, and word of what changes there, from the library watchfiles.

Folders are watched, not files: an editor that writes a new file and renames it leaves a watch on the file that is gone.
Not their subfolders: a mod that stands beside a virtual environment or a data folder would cost as many watches.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import anyio

from ..config import MOD_FILE_NAME, ModConfig
from .home import folder_of, module_file
from .saved_files import MAX_FILES, SKIPPED, UNSURE, digest, may_be_code

try:
    from watchfiles import awatch
except ImportError:  # an extra: networks that are not being worked on need no watching
    awatch = None

HOW_TO_INSTALL = "watching files needs the package watchfiles; install it with: pip install 'modvisor[watch]'"

STEP = 5
"""Milliseconds without another change after which a save is taken to be over, and between two looks for one: editors and
formatters write a file within one or two. The mod's start takes ten times as long, and what is saved before it reads its files
is in it, so more would hardly spare a reload. The looks take 0.4 % of a processor."""

DEBOUNCE = 100
"""Milliseconds after which a save that goes on and on (another branch is checked out) is acted upon all the same."""

MAX_FOLDERS = 1000  # of a package; a worker may call the root of the file system its package
MAX_BYTES = 16 * 1024 * 1024  # of one file; a worker keeps no more of all of them


@dataclass(frozen=True, slots=True)
class CodePlace:
    """Where the code of a mod stands, as far as its path tells.

    Attributes:
        root: the folder of its package; None for a single module.
        files: its mod.yaml, and the file of a single module; they need not be there.
    """

    root: str | None
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """The files of a mod as they were a moment ago.

    Attributes:
        digests: of those that are there.
        hoped: of what is no file of the mod, and may be what it has not found.
        watched: the folders to watch for changes of them, with what tells a folder from another one of the same name.
        names: the mod's name for a file, by the name under which a change of it is told.
        inner: those of the folders in which anything that may be code is the mod's.
    """

    digests: dict[str, bytes]
    hoped: dict[str, bytes]
    watched: dict[str, tuple[int, int]]
    names: dict[str, str]
    inner: frozenset[str]


def can_watch() -> bool:
    return awatch is not None


def code_place(mod: ModConfig, base_dir: Path, search: list[str]) -> CodePlace:
    """Where the code of a mod is to be found, whether or not it is there."""
    mod_path, home = mod.path, folder_of(mod, base_dir, search)
    file = module_file(mod_path, search)
    own_files = (*(() if home is None else (home / MOD_FILE_NAME,)), *(() if file is None else (file,)))
    is_package = home is not None and mod_path.partition(":")[0] != "mod"  # else it is whatever folder mod.py stands in
    return CodePlace(str(home) if is_package else None, tuple(map(str, own_files)))


def look_at_files(root: str | None, files: Iterable[str], roots: Iterable[str] = ()) -> Seen:
    """Read the files of a mod.

    Args:
        root: the folder of its package.
        files: its others, and those below ``root`` that it is known to have.
        roots: folders in which a module may turn up that it has not found.
    """
    folders = [] if root is None else list(islice(_code_folders(root), MAX_FOLDERS))
    listed = [path for folder in folders for path in _code_files(folder)][:MAX_FILES]
    own = dict.fromkeys([*islice(files, MAX_FILES), *listed])
    digests = {path: found for path in own if (found := _digest_of(path)) is not None}
    around = [path for folder in roots for path in _code_files(folder, with_folders=True) if path not in digests]
    hoped = {path: _digest_of(path) or b"folder" for path in around}
    parents = {os.path.dirname(path) for path in own}
    if root is not None:
        own[root] = None
        parents.add(os.path.dirname(root))  # where it is seen that the whole folder went, or came
    inner = frozenset(os.path.realpath(folder) for folder in (*folders, *roots))
    named = {path: name for name in own for path in _told_as(name)}
    places = {os.path.realpath(parent) for parent in parents} | {os.path.dirname(path) for path in named} | inner
    return Seen(digests, hoped, dict(map(_watchable, places)), named, inner)


def saved_since(path: str, moment: float) -> bool:
    """Whether a file may have been written after ``moment`` (wall clock, as the file system's)."""
    try:
        return os.stat(path).st_mtime >= moment - 0.02  # the kernel's clock for files ticks that coarsely
    except OSError:
        return False


def mark_unsure(digests: dict[str, bytes], since: float) -> dict[str, bytes]:
    """``digests``, less those of files that may have been written meanwhile."""
    return {path: UNSURE if saved_since(path, since) else found for path, found in digests.items()}


async def changes_in(folders: Iterable[str], stop: anyio.Event) -> AsyncIterator[set[str]]:
    """The files and folders that change directly below ``folders``, save by save, until ``stop`` is set.

    They are watched from the first step of the iteration on.

    Raises:
        OSError: a folder is not there (any more), or the system has no more watches.
    """
    assert awatch is not None, HOW_TO_INSTALL
    found = awatch(
        *folders, watch_filter=None, step=STEP, debounce=DEBOUNCE, stop_event=stop, recursive=False,
        ignore_permission_denied=True,
    )  # fmt: skip
    async with aclosing(found):
        async for changed in found:
            yield {path for _, path in changed}


def _code_folders(root: str) -> Iterator[str]:
    for folder, below, _ in os.walk(root):
        below[:] = sorted(name for name in below if name.isidentifier() and name not in SKIPPED)
        yield folder


def _code_files(folder: str, *, with_folders: bool = False) -> Iterator[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    wanted = [name for name in names if may_be_code(name) and (with_folders or name.endswith(".py"))]
    yield from (os.path.join(folder, name) for name in wanted[:MAX_FILES])


def _digest_of(path: str) -> bytes | None:
    """None for what is no file with code in it: the name may come from a worker, which may name a pipe or a device."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            data = file.read(MAX_BYTES)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    # A worker is told the text of a mod.yaml, which has no mark at its beginning.
    return digest(data.removeprefix(codecs.BOM_UTF8) if os.path.basename(path) == MOD_FILE_NAME else data)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _told_as(path: str) -> set[str]:
    """The names under which a change of a file may be told: in its folder, and where a link leads."""
    folder, name = os.path.split(path)
    return {os.path.join(os.path.realpath(folder), name), os.path.realpath(path)}


def _watchable(folder: str) -> tuple[str, tuple[int, int]]:
    """The folder, or the next one above it that is there: in that one its return is seen."""
    while True:
        try:
            found = os.stat(folder)
        except OSError:
            folder = os.path.dirname(folder)
        else:
            return folder, (found.st_dev, found.st_ino)
