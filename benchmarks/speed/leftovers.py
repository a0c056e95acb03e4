"""Find what a part has left behind: processes, descriptors, threads, tasks, sockets, files."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..census import Census, Marked
from .asking import MARK

PATIENCE = 5.0  # seconds to wait for what ends
LOOK = 0.02


@contextmanager
def marked() -> Iterator[Marked]:
    """Mark the processes that are started meanwhile."""
    os.environ[MARK] = value = str(uuid.uuid4())
    try:
        yield Marked(f"{MARK}={value}")
    finally:
        del os.environ[MARK]


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before


async def nothing_more_than(before: Census) -> list[str]:
    """Wait for what ends. Return in words what this process holds now and did not hold before."""
    end = time.monotonic() + PATIENCE
    while (held := Census.take().more_than(before)) and any(held.values()) and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(LOOK)
    return [f"{kind}: {what}" for kind, what in held.items() if what]


def processes(running: Marked) -> list[str]:
    """Wait for processes that end. Name those that are alive."""
    end = time.monotonic() + PATIENCE
    while (alive := running.alive()) and time.monotonic() < end:
        time.sleep(LOOK)
    return [f"process {pid} ({name})" for pid, name in alive.items()]


def files(temporary: Path, storage: Path) -> list[str]:
    """Name temporary files, and sockets wherever they are."""
    found = [path for path in temporary.rglob("*") if path.is_file()]
    return [f"file {path}" for path in [*found, *(path for path in storage.rglob("*") if path.is_socket())]]
