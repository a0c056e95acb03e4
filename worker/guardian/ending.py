"""The end of a forked worker: what the end of a Python program does for others, without taking the interpreter apart.

To finalize the interpreter means to touch every object that was imported before the fork, so to copy nearly all of the memory
that is shared with the guardian: some 9 ms and 8 MB, right before all of it is given back. What anybody could miss is done
all the same: threads are waited for, exit handlers run, the mod's own objects end (with their ``__del__``), files are written.
"""

from __future__ import annotations

import _io
import atexit
import ctypes
import gc
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import ModuleType
from typing import Any, NoReturn

_libc = ctypes.PyDLL(None)  # made before the fork
_FILES = (_io.BufferedWriter, _io.BufferedRandom)


def leave(status: int, modules: Callable[[], Iterable[ModuleType]]) -> NoReturn:
    """End this process. Threads that nobody waits for need the ordinary end, and get it.

    Args:
        modules: gives those of the mod itself, whose globals are to end.
    """
    threading._shutdown()  # type: ignore[attr-defined] - what the interpreter itself calls
    if len(sys._current_frames()) > 1:
        sys.exit(status)
    _tolerantly(atexit._run_exitfuncs)
    _tolerantly(lambda: _clear(modules()))
    _flush(gc.get_objects())  # without those from before the fork: these are frozen
    for stream in (sys.stdout, sys.stderr):
        _tolerantly(stream.flush)
    # Not os._exit: libraries in C have buffers and exit handlers of their own. PyDLL: no other thread runs meanwhile.
    _libc.exit(status)
    raise AssertionError("exit(3) returned")


def _clear(modules: Iterable[ModuleType]) -> None:
    """As the interpreter would: first the names that begin with an underscore, then the others."""
    for module in modules:
        names = vars(module)
        for private in (True, False):
            for name in list(names):
                if name != "__builtins__" and name.startswith("_") is private:
                    names[name] = None
    gc.collect()


def _flush(objects: Iterable[Any]) -> None:
    """What is still open and has something to write: text first, since it is written into the others."""
    layers: tuple[list[Any], ...] = ([], [], [])
    for each in objects:
        if isinstance(each, _io._IOBase):
            layers[0 if isinstance(each, _io.TextIOWrapper) else 2 if isinstance(each, _FILES) else 1].append(each)
    for text in layers[0]:
        _tolerantly(text.flush)
    for other in layers[1]:
        if type(other).__module__ != "_io":  # built upon the others: a compressed file, say, ends with its close()
            _tolerantly(other.close)
    for file in layers[2]:
        _tolerantly(file.flush)


def _tolerantly(call: Callable[[], object]) -> None:
    """What fails now keeps nothing else from being done; as at any end of an interpreter it is told, and that is all."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - whatever it is: this is the end
        if not (isinstance(error, ValueError) and "closed file" in str(error)):
            with suppress(BaseException):
                sys.excepthook(type(error), error, error.__traceback__)
