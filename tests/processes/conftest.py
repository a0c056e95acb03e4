"""What tests of whole supervisors share: all processes of one, whoever is their parent by now."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest


class Marked:
    """All processes of one supervisor, told by a variable that workers inherit, whoever is their parent."""

    def __init__(self) -> None:
        self._mark = f"PYTHONMARK={uuid.uuid4()}"
        self.variable = dict([self._mark.split("=", 1)])

    def alive(self) -> set[int]:
        found = set()
        for name in os.listdir("/proc"):
            with suppress(OSError):  # gone; a zombie has no environment
                if name.isdecimal() and self._mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                    found.add(int(name))
        return found

    async def gone_within(self, seconds: float) -> float:
        begin = time.monotonic()
        while left := self.alive():
            assert time.monotonic() - begin < seconds, [psutil.Process(pid).as_dict(["pid", "status"]) for pid in left]
            await asyncio.sleep(0.01)
        return time.monotonic() - begin


@pytest.fixture
def marked() -> Iterator[Marked]:
    marked = Marked()
    yield marked
    while left := marked.alive():
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
