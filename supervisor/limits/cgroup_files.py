"""Read and write the files of cgroups and of ``/proc``.

A file that is missing or refused is no error here.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("modvisor.cgroups")

_CHUNK = 16 * 1024  # bytes: some two thousand pids
_HALF_A_PAGE = 2048


def read(path: Path | str) -> str:
    """Return the text of a file, or "" if it is missing or hidden from us."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return _all_of(fd).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(fd)


def write(path: Path, text: str) -> bool:
    """Write to an existing file. Return False if the kernel refuses."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
    except OSError as error:
        logger.debug("%s: %r was refused: %s", path, text, error)
        return False
    return True


def pids(path: Path) -> set[int]:
    """Return the processes in one cgroup, without the cgroups below it.

    The watchdog asks this of every worker's cgroup in every pass.
    """
    try:
        fd = os.open(f"{path}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return set()
    try:
        return {int(pid) for pid in _all_of(fd).split()}
    except OSError:
        return set()
    finally:
        os.close(fd)


def pids_below(path: Path) -> set[int]:
    """Return the processes in a cgroup and in the cgroups below it."""
    if _has_no_folders(path):
        return pids(path)
    return set[int]().union(*(pids(folder) for folder in folders(path)))


def _all_of(fd: int) -> bytes:
    """Read to the end. The kernel gives a page at a time, so less than half a page is all there is."""
    data = part = os.read(fd, _CHUNK)
    while len(part) >= _HALF_A_PAGE:
        part = os.read(fd, _CHUNK)
        data += part
    return data


def _has_no_folders(path: Path) -> bool:
    """Tell by the links of a folder: its name, its ".", and the ".." of each folder in it."""
    try:
        return os.stat(path).st_nlink == 2
    except OSError:
        return False


def flat_keyed(text: str) -> dict[str, int]:
    """Return the ``KEY VALUE`` lines of a file."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def folders(path: Path) -> list[Path]:
    """Return ``path`` and all cgroups below it, parents first."""
    found = [path]
    for folder in found:
        with suppress(OSError), os.scandir(folder) as entries:
            found.extend(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    return found


def remove(path: Path) -> bool:
    """Remove a cgroup and those below it. Return False while one of them still has processes."""
    for folder in reversed(folders(path)):
        try:
            folder.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True


def descendants(pid: int) -> set[int]:
    """Return ``pid`` and everything it has started, from the kernel's lists of children."""
    found, waiting = {pid}, [pid]
    while waiting:
        tasks = f"/proc/{waiting.pop()}/task"
        with suppress(OSError):
            for task in os.listdir(tasks):
                children = {int(child) for child in read(f"{tasks}/{task}/children").split()} - found
                found |= children
                waiting.extend(children)
    return found
