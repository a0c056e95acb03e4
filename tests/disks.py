"""Small file systems of their own, which can be filled. Only root can mount them; others skip the test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """Make a folder and mount there what the arguments of mount(8) say; unmount it at the end."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    done = subprocess.run(["mount", *arguments, folder], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def in_memory(folder: Path, size: str) -> AbstractContextManager[Path]:
    """Mount a file system of a size such as ``4m`` in memory."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs")


def fill(disk: Path) -> Path:
    """Fill a disk to the last byte, once more if something was freed. Return the file to remove for room."""
    ballast = disk / "ballast"
    with ballast.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast
