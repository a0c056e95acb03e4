"""Notices when something appears in a folder that overlays cover (`worker.cell.overlays`).

An overlay remembers names that it did not find. The guardian alone watches: a user may have few
inotify instances. It tells the wardens, which have the overlays forget what they remember.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import suppress

from ..cell.overlays import by_folder
from .clone import libc

_CREATE, _MOVED_TO, _ONLYDIR = 0x100, 0x80, 0x0100_0000
_MOST = 4096  # bytes read at once: more are read in the next turn


class Arrivals:
    """Attributes:
    fd: for `select.poll`; -1 until there is a folder to watch.
    """

    def __init__(self) -> None:
        self.fd = -1
        self._watched: set[bytes] = set()
        self._last: Sequence[bytes] = ()  # hidden paths whose folders are watched: those of most cells

    def watch(self, hidden: Sequence[bytes]) -> bool:
        """Watch the folders of hidden files. Return whether `fd` is new."""
        if hidden == self._last:
            return False
        self._last = hidden
        folders = by_folder(path for path in hidden if not os.path.isdir(path)).keys() - self._watched
        if not folders:
            return False
        is_new = self.fd < 0
        if is_new:
            self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for folder in folders if self.fd >= 0 else ():
            libc.inotify_add_watch(self.fd, folder, ctypes.c_uint32(_CREATE | _MOVED_TO | _ONLYDIR))
        self._watched |= folders
        return is_new and self.fd >= 0

    def forget(self) -> None:
        """Forget what has appeared so far."""
        with suppress(BlockingIOError):
            while len(os.read(self.fd, _MOST)) == _MOST:
                pass

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
