"""The end of a worker's process: no output of the mod is lost, and what holds the end up is named.

The interpreter clears modules and collects garbage before it closes files. If a text file and its
buffer are part of a circle of references, the buffer may be closed first, and what the text file
still held is lost. So the files are written while everything is alive.
"""

from __future__ import annotations

import _io
import atexit
import functools
import gc
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures.thread import _threads_queues  # type: ignore[attr-defined] - the threads of executors
from contextlib import suppress
from types import ModuleType
from typing import Any

from . import stdio

PATIENCE = 0.25
"""Seconds that threads of the mod have to end before they are named in the log."""

MAX_NAMED = 10  # threads named in the log

_FILES = (_io.BufferedWriter, _io.BufferedRandom)

_kept: list[object] = []


def keep(thing: object) -> None:
    """Keep an object alive until `end_objects`: before, garbage collection must not close its files."""
    _kept.append(thing)


def run_exit_handlers() -> None:
    """Wait for threads and run the exit handlers, as the interpreter does at its end.

    That also lets go of the handlers and of all that they refer to.
    """
    threading._shutdown()  # type: ignore[attr-defined] - the interpreter itself calls it
    tolerantly(atexit._run_exitfuncs)


def end_objects_at_exit(modules: Callable[[], Iterable[ModuleType]]) -> None:
    """Call `end_objects` after every exit handler that the mod registers. Call this before the mod's code runs."""
    atexit.register(lambda: end_objects(modules()))


def end_objects(modules: Iterable[ModuleType]) -> None:
    """Write the mod's files, end its objects (with their ``__del__``), then write what these wrote.

    Daemon threads, which the interpreter stops later, would stumble over cleared modules. With them
    only the files are written.

    Args:
        modules: the mod's own modules, whose globals are to end.
    """
    write_files(gc.get_objects(), close=False)
    _kept.clear()
    _forget_classes()
    if len(sys._current_frames()) == 1:
        tolerantly(lambda: clear(modules))
    # Of a forked worker, objects from before the fork are frozen, so not among these.
    write_files(gc.get_objects(), close=True)


def _forget_classes() -> None:
    """Empty a cache of Python 3.12 that keeps classes, and so a mod's globals, alive to the very end."""
    cached = getattr(inspect, "_shadowed_dict_from_mro_tuple", None)
    if isinstance(cached, functools._lru_cache_wrapper):
        cached.cache_clear()


def clear(modules: Iterable[ModuleType]) -> None:
    """Clear globals as the interpreter does: first names with an underscore, then the others."""
    for module in modules:
        names = vars(module)
        for private in (True, False):
            for name in list(names):
                if name != "__builtins__" and name.startswith("_") is private:
                    names[name] = None
    gc.collect()


def write_files(objects: Iterable[Any], *, close: bool) -> None:
    """Write the buffers of open files: text files first, since they write into the others.

    Args:
        close: also close files that are written at their end alone, such as compressed ones.
    """
    layers: tuple[list[Any], ...] = ([], [], [])
    for each in objects:
        if issubclass(type(each), _io._IOBase):  # isinstance() would ask the object
            layers[0 if isinstance(each, _io.TextIOWrapper) else 2 if isinstance(each, _FILES) else 1].append(each)
    for text in layers[0]:
        tolerantly(text.flush)
    for other in layers[1]:
        if close and type(other).__module__ != "_io":
            tolerantly(other.close)
    for file in layers[2]:
        tolerantly(file.flush)


def name_threads() -> None:
    """Say in the mod's log which threads the process has to wait for."""
    deadline = time.monotonic() + PATIENCE
    for thread in _to_wait_for():
        thread.join(max(0.0, deadline - time.monotonic()))
    if left := [thread.name for thread in _to_wait_for()]:
        more = f" and {len(left) - MAX_NAMED} more" if len(left) > MAX_NAMED else ""
        stdio.say(
            f"WARNING the mod has shut down, but its process waits for {len(left)} of its threads: "
            f"{', '.join(left[:MAX_NAMED])}{more}; end them in shutdown(), or start them with daemon=True"
        )


def _to_wait_for() -> list[threading.Thread]:
    main = threading.main_thread()
    return [
        thread
        for thread in threading.enumerate()
        if thread is not main and not thread.daemon and thread not in _threads_queues
    ]


def tolerantly(call: Callable[[], object]) -> None:
    """Call; print a failure and go on, as the interpreter does at its end."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - nothing may stop the end
        if not (isinstance(error, ValueError) and "closed file" in str(error)):
            with suppress(BaseException):
                sys.excepthook(type(error), error, error.__traceback__)
