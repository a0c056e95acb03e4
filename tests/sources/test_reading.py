"""Threads that read the files of mods: few, however much is to be read."""

from __future__ import annotations

import asyncio
import threading

import pytest

from modvisor.supervisor.sources.reading import AT_ONCE, in_thread

pytestmark = pytest.mark.anyio


async def test_however_many_mods_start_few_threads_read_their_files() -> None:
    running, most, lock, full = 0, 0, threading.Lock(), threading.Event()

    def read(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == AT_ONCE:
                full.set()
        full.wait(10)
        with lock:
            running -= 1
        return number

    found = await asyncio.gather(*(in_thread(read, number) for number in range(100)))
    assert found == list(range(100))
    assert most == AT_ONCE


async def test_what_fails_in_a_thread_fails_for_its_caller() -> None:
    with pytest.raises(OSError, match="no such mod"):
        await in_thread(_fail)


def _fail() -> None:
    raise OSError("no such mod")
