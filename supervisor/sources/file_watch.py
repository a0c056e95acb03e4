"""Reads the files of a mod, and reports changes in folders through the library watchfiles.

It watches folders and not files: many editors write a new file and rename it, and a watch on the
old file would see nothing more. It does not watch subfolders: a virtual environment or a data
folder beside the mod would need one watch per folder.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from itertools import islice
from pathlib import Path
from types import ModuleType

import anyio

from ..config import MOD_FILE_NAME, ModConfig
from .home import folder_of, module_file
from .saved_files import MAX_FILES, SKIPPED, UNSURE, digest, may_be_code

HOW_TO_INSTALL = "watching files needs the package watchfiles; install it with: pip install 'modvisor[watch]'"

STEP = 5
"""Milliseconds between two looks for changes, and without a change until a save counts as finished.

Editors and formatters write a file within one or two milliseconds. The start of the mod takes ten
times as long, and includes what is saved before it reads its files, so a longer wait would hardly
save a reload. The looks take 0.4 % of a processor."""

DEBOUNCE = 100
"""Milliseconds after which changes are reported although more come, as at a git checkout."""

MAX_FOLDERS = 1000  # of a package; a worker may report the root of the file system as its package
MAX_BYTES = 16 * 1024 * 1024  # of one file; a worker reports no more for all files together


@dataclass(frozen=True, slots=True)
class CodePlace:
    """Where the code of a mod stands, as far as its path tells.

    Attributes:
        root: the folder of its package; None for a single module.
        files: its mod.yaml, and the file of a single module; they need not exist.
    """

    root: str | None
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """The files of a mod as they were when they were read.

    Attributes:
        digests: the digests of the files that exist.
        hoped: the digests of other files, which may be the modules that the mod failed to find.
        watched: the folders to watch, each with its device and inode: a folder that is replaced by
            another one of the same name differs.
        names: the path by which a change is reported -> the mod's own path of the file.
        inner: the watched folders in which every file that may be code belongs to the mod.
    """

    digests: dict[str, bytes]
    hoped: dict[str, bytes]
    watched: dict[str, tuple[int, int]]
    names: dict[str, str]
    inner: frozenset[str]


def can_watch() -> bool:
    """Tell whether the library watchfiles is installed.

    It is an extra, and imported when it is used first: only networks under development need it.
    """
    return _library() is not None


@lru_cache(maxsize=1)
def _library() -> ModuleType | None:
    try:
        return import_module("watchfiles")
    except ImportError:
        return None


def code_place(mod: ModConfig, base_dir: Path, search: list[str]) -> CodePlace:
    """Return where the code of a mod should be, whether or not it exists."""
    mod_path, home = mod.path, folder_of(mod, base_dir, search)
    file = module_file(mod_path, search)
    own_files = (*(() if home is None else (home / MOD_FILE_NAME,)), *(() if file is None else (file,)))
    # A mod.py that is imported as `mod` stands alone in some folder.
    is_package = home is not None and mod_path.partition(":")[0] != "mod"
    return CodePlace(str(home) if is_package else None, tuple(map(str, own_files)))


def look_at_files(root: str | None, files: Iterable[str], roots: Iterable[str] = ()) -> Seen:
    """Read the files of a mod.

    Args:
        root: the folder of its package.
        files: its other files, and the files below ``root`` that it is known to have.
        roots: folders in which a module may appear that the mod failed to find.
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
        parents.add(os.path.dirname(root))  # shows when the whole folder is removed or created
    inner = frozenset(os.path.realpath(folder) for folder in (*folders, *roots))
    named = {path: name for name in own for path in _told_as(name)}
    places = {os.path.realpath(parent) for parent in parents} | {os.path.dirname(path) for path in named} | inner
    return Seen(digests, hoped, dict(map(_watchable, places)), named, inner)


def saved_since(path: str, moment: float) -> bool:
    """Tell whether a file may have been written after ``moment`` by the wall clock."""
    try:
        return os.stat(path).st_mtime >= moment - 0.02  # the coarse clock of files
    except OSError:
        return False


def mark_unsure(digests: dict[str, bytes], since: float) -> dict[str, bytes]:
    """Replace the digests of files that may have been written after ``since`` by `UNSURE`."""
    return {path: UNSURE if saved_since(path, since) else found for path, found in digests.items()}


async def changes_in(folders: Iterable[str], stop: anyio.Event) -> AsyncIterator[set[str]]:
    """Yield the files and folders that change directly below ``folders``, until ``stop`` is set.

    The watch begins with the first step of the iteration.

    Raises:
        OSError: a folder does not exist, or the system has no more watches.
    """
    library = _library()
    assert library is not None, HOW_TO_INSTALL
    found = library.awatch(
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
    """Return the digest of a regular file, else None: a worker may name a pipe or a device."""
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            data = file.read(MAX_BYTES)
    except (OSError, ValueError):  # ValueError: the name has a NUL
        return None
    # A worker gets the text of a mod.yaml without a byte order mark.
    return digest(data.removeprefix(codecs.BOM_UTF8) if os.path.basename(path) == MOD_FILE_NAME else data)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _told_as(path: str) -> set[str]:
    """Return the paths by which a file's change may be reported: its own and a link's target."""
    folder, name = os.path.split(path)
    return {os.path.join(os.path.realpath(folder), name), os.path.realpath(path)}


def _watchable(folder: str) -> tuple[str, tuple[int, int]]:
    """Return the folder, or the nearest parent that exists, which shows when the folder returns."""
    while True:
        try:
            found = os.stat(folder)
        except OSError:
            folder = os.path.dirname(folder)
        else:
            return folder, (found.st_dev, found.st_ino)
