"""What a part has left behind: processes, descriptors, threads, tasks, sockets, files."""

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

PATIENCE = 5.0  # seconds in which what is ending must have ended
LOOK = 0.02
MARK = "PYTHONSPEED"  # workers inherit what begins with PYTHON


@contextmanager
def marked() -> Iterator[Marked]:
    """The processes that are started meanwhile."""
    name, value = MARK, str(uuid.uuid4())
    os.environ[name] = value
    try:
        yield Marked(f"{name}={value}")
    finally:
        del os.environ[name]


@contextmanager
def temporary_files_in(folder: Path) -> Iterator[None]:
    former, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = former


async def nothing_more_than(before: Census) -> list[str]:
    """What this process holds and did not hold before, in words, once it has had time to end."""
    end = time.monotonic() + PATIENCE
    while (held := _held(before)) and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(LOOK)
    return held


def _held(before: Census) -> list[str]:
    return [f"{kind}: {what}" for kind, what in Census.take().more_than(before).items() if what]


def processes(running: Marked) -> list[str]:
    end = time.monotonic() + PATIENCE
    while (alive := running.alive()) and time.monotonic() < end:
        time.sleep(LOOK)
    return [f"process {pid} ({name})" for pid, name in alive.items()]


def files(temporary: Path, storage: Path) -> list[str]:
    """Temporary files, and sockets wherever they are."""
    found = [path for path in temporary.rglob("*") if path.is_file()]
    return [f"file {path}" for path in [*found, *(path for path in storage.rglob("*") if path.is_socket())]]
