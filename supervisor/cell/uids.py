"""A user id for each mod that is to have one of its own, where the network runs as root.

Ids are given from the range `network.sandbox_uids`, and kept in a file of the state folder, so that a
mod finds its files again. A mod's storage is given to its user when that changes: once, before a
process of the mod needs it. The folder itself goes last, so a run that was cut short is seen and
done again. The same way back when a mod loses its own user.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...ipc.errors import Code, ModvisorError

logger = logging.getLogger("modvisor.cell")

FILE = "uids.json"

_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC if hasattr(os, "O_PATH") else 0


class Uids:
    """The user ids of a network's mods.

    Args:
        state: the state folder.
        first, count: the range.
    """

    def __init__(self, state: Path, first: int, count: int) -> None:
        self._file = state / FILE
        self._mods = state / "mods"
        self._range = range(first, first + count)
        self._known: dict[str, int] | None = None

    def of(self, mod_id: str) -> int:
        """Return the id of a mod's user, the same in each run.

        Raises:
            ModvisorError: none is left.
            OSError: the file cannot be written.
        """
        known = self._read()
        if mod_id not in known:
            known[mod_id] = self._free(known)
            self._write(known)
        return known[mod_id]

    def _free(self, known: dict[str, int]) -> int:
        for _ in range(2):
            taken = set(known.values())
            for uid in self._range:
                if uid not in taken:
                    return uid
            for mod_id in [each for each in known if not (self._mods / each).exists()]:
                del known[mod_id]  # it was removed with its storage: no file has its id
        text = f"all {len(self._range)} ids of network.sandbox_uids are taken by mods; make the range larger"
        raise ModvisorError(text, code=Code.NOT_CONFINED)

    def _read(self) -> dict[str, int]:
        if self._known is None:
            self._known = {}
            with suppress(FileNotFoundError, ValueError):
                found = json.loads(self._file.read_text())
                self._known = {str(name): uid for name, uid in found.items() if uid in self._range}
        return self._known

    def _write(self, known: dict[str, int]) -> None:
        new = self._file.with_suffix(".new")
        with open(new, "w", encoding="utf-8") as file:
            json.dump(known, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._file)


def check_code(folder: Path, uid: int) -> None:
    """Raise `ModvisorError` if a user may not read the code in a folder. OSError: nobody can."""
    for path in (folder, *folder.glob("*.py")):
        found = path.stat()
        needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else 0)
        if found.st_uid != uid and found.st_mode & needed != needed:
            text = f"its processes run as user {uid}, who may not read {path}; open it with 'chmod -R o+rX {folder}'"
            raise ModvisorError(f"{text}, or set 'user: network' in its sandbox", code=Code.INVALID_MOD)


def belongs_to(folder: Path, uid: int) -> bool:
    """Return whether a storage folder was given to this user, and all that was in it."""
    return os.stat(folder, follow_symlinks=False).st_uid == uid


def give(folder: Path, uid: int) -> tuple[int, int]:
    """Give a folder and all below it to a user. Return how many files were given, and how many left.

    Nothing outside is touched, whatever a process of the mod does meanwhile. Links are not followed. A
    file that has a name elsewhere, too, stays as it is: a mod could have made that name for a file
    that is not its own. Other file systems that are mounted below stay as they are.

    Raises:
        OSError: something cannot be given.
    """
    with _opened(folder) as root:
        device = os.fstat(root).st_dev
        names = Counter(
            (found.st_dev, found.st_ino) for fd in _below(root, device) if (found := os.fstat(fd)).st_nlink > 1
        )
        given = left = 0
        for fd in _below(root, device):
            found = os.fstat(fd)
            if stat.S_ISDIR(found.st_mode) or found.st_nlink <= max(1, names[found.st_dev, found.st_ino]):
                os.chown(f"/proc/self/fd/{fd}", uid, uid)  # the very file that was looked at
                given += 1
            else:
                left += 1
        os.chown(f"/proc/self/fd/{root}", uid, uid)
    return given + 1, left


def give_once(mod_id: str, folder: Path, uid: int) -> None:
    """Give a mod's storage to a user unless that has been done, and say so in the log. Raise OSError."""
    if belongs_to(folder, uid):
        return
    given, left = give(folder, uid)
    text = f", but {left} that have a name elsewhere, too; give them by hand if they are its own" if left else ""
    logger.info("mod %s: its storage belongs to user %d now: %d files%s", mod_id, uid, given, text)


def _below(folder: int, device: int) -> Iterator[int]:
    """Yield a descriptor of each file below a folder; of a folder after its contents. Each is closed after its turn."""
    for name in os.listdir(f"/proc/self/fd/{folder}"):
        with suppress(FileNotFoundError), _opened(name, folder) as fd:
            found = os.fstat(fd)
            if found.st_dev == device:
                if stat.S_ISDIR(found.st_mode):
                    yield from _below(fd, device)
                yield fd


@contextmanager
def _opened(path: str | Path, folder: int | None = None) -> Iterator[int]:
    fd = os.open(path, _LOOK, dir_fd=folder)
    try:
        yield fd
    finally:
        os.close(fd)
