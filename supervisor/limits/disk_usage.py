"""How many bytes a folder takes on disk."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ..process import reserve


def disk_usage(folder: Path, given_up: Callable[[], bool] = lambda: False) -> int:
    """Return the bytes on disk of all files below ``folder``, counted as ``du`` does.

    It counts blocks, counts a file with several names once, and does not follow links. It does not
    see a file that was deleted while it is open.

    Args:
        given_up: asked before each folder; True ends the count early.
    """
    total = 0
    seen: set[tuple[int, int]] = set()
    waiting = [str(folder)]
    while waiting and not given_up():
        folder_path = waiting.pop()
        with suppress(OSError), reserve.with_spare(lambda: os.scandir(folder_path)) as entries:  # noqa: B023 - called at once
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(entry.path)
                    elif status.st_nlink > 1:
                        if (status.st_dev, status.st_ino) in seen:
                            continue
                        seen.add((status.st_dev, status.st_ino))
                    total += 512 * status.st_blocks
    return total


def bytes_below(folders: Iterable[Path]) -> int:
    """Return the bytes on disk of all files below these folders; see `disk_usage`."""
    return sum(map(disk_usage, folders))
