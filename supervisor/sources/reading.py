"""Run what reads and writes a mod's files in a thread: a few at a time, however many mods start together.

Reading a mod is mostly Python, which more threads do not speed up. Without a limit, the start of a
large network makes forty threads, and the memory of their stacks and of all that they read stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from anyio.lowlevel import RunVar

from ..aside import Aside

T = TypeVar("T")

AT_ONCE = 3
"""Calls that run at the same time: enough to keep a core busy while one of them waits for a disk."""

_threads = RunVar[Aside]("modvisor-files")


def end_threads() -> None:
    """Have the threads of this event loop end. A further call begins others."""
    if (threads := _threads.get(None)) is not None:
        threads.close()


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Call a function that blocks, and return what it returns."""
    threads = _threads.get(None)
    if threads is None:
        _threads.set(threads := Aside(AT_ONCE, "files"))
    return await threads.run(function, *args)
