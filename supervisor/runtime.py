"""Settings for a process that runs nothing but a network, as `modvisor run` does.

A program of your own may use them too.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

YOUNG = 10_000
"""New objects after which Python's garbage collector runs.

An event makes some tens of objects, and they are gone when it is answered. With Python's own 700, a
busy network spent a sixth of its time looking at the objects of events in flight."""


SWITCH = 0.0005
"""Seconds for which a thread may compute while the event loop waits for the interpreter.

With Python's own 5 ms, an event takes that much longer whenever a thread of the network decodes a
large frame, packs rows for the journal or looks at processes."""

AUTO, UVLOOP, ASYNCIO = LOOPS = ("auto", "uvloop", "asyncio")
"""What the key ``network.event_loop`` may say."""

REPAIR = "reinstall it (pip install --force-reinstall uvloop), or set 'event_loop: asyncio' of the network"
INSTALL = "install it: pip install 'modvisor[fast]'"

logger = logging.getLogger("modvisor.runtime")


class _Named(threading.local):
    networks = 0


_named = _Named()


@contextmanager
def named_loop() -> Iterator[None]:
    """Tell sniffio, if it is installed, that this thread runs asyncio, as long as one network runs in it.

    anyio asks sniffio then, and sniffio finds no loop in a plain callback, such as that of a pipe
    that ends: a callback is no task. `anyio.run` tells it for what it begins, `asyncio.run` does not.
    """
    sniffio = sys.modules.get("sniffio")  # anyio has imported it if it can be
    if sniffio is None:
        yield
        return
    _named.networks += 1
    sniffio.thread_local.name = "asyncio"
    try:
        yield
    finally:
        _named.networks -= 1
        if not _named.networks:
            sniffio.thread_local.name = None


class NoUvloop(Exception):
    """uvloop was asked for and cannot be used. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class LoopChoice:
    """The event loop that a process of `modvisor run` gets.

    Attributes:
        uvloop: the module, if the loop is uvloop's; None for asyncio's.
        fault: why uvloop cannot be imported though it is installed; None if it can, if it is not
            installed or not wanted.
    """

    uvloop: ModuleType | None = None
    fault: str | None = None

    def __str__(self) -> str:
        return f"uvloop {self.uvloop.__version__}" if self.uvloop else f"asyncio of Python {sys.version.split()[0]}"


def has_uvloop() -> bool:
    """Return whether the faster event loop is installed."""
    return find_spec("uvloop") is not None


def choose_loop(wanted: str = AUTO) -> LoopChoice:
    """Return the loop that ``wanted`` means here. Imports uvloop, which takes some ms.

    Args:
        wanted: one of `LOOPS`; ``auto`` means uvloop where it can be imported.

    Raises:
        NoUvloop: ``wanted`` is ``uvloop``, and uvloop is not installed or cannot be imported.
    """
    if wanted == ASYNCIO:
        return LoopChoice()
    fault = None
    try:
        return LoopChoice(import_module("uvloop"))
    except ModuleNotFoundError as error:
        if error.name != "uvloop":
            fault = str(error)
    except Exception as error:  # noqa: BLE001 - built for another Python or libc, it may fail in any way
        fault = f"{type(error).__name__}: {error}"
    if wanted == UVLOOP:
        raise NoUvloop(f"uvloop cannot be imported ({fault}); {REPAIR}" if fault else f"no uvloop here; {INSTALL}")
    return LoopChoice(fault=fault)


def loop_name(loop: AbstractEventLoop) -> str:
    """Return whose event loop this is: ``uvloop`` or ``asyncio``."""
    return UVLOOP if any(kind.__module__.partition(".")[0] == UVLOOP for kind in type(loop).__mro__) else ASYNCIO


def warn_of_fault(choice: LoopChoice) -> None:
    """Log why the slower loop is used though the faster one is installed."""
    if choice.fault is not None:
        logger.warning(
            "uvloop is installed and cannot be imported (%s): the network runs on asyncio's event loop, which "
            "takes more CPU; %s",
            choice.fault,
            REPAIR,
        )


def share_interpreter() -> None:
    """Let the event loop go on soon while another thread of this process computes."""
    sys.setswitchinterval(SWITCH)


def ease_collector() -> None:
    """Call `gc.freeze` on the objects that exist now, and collect less often.

    Call it once the network serves: the objects that exist then stay for good, and no full pass
    needs to look at them again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])


def open_missing_descriptors() -> list[int]:
    """Open those of the descriptors 0 to 2 that are closed, on /dev/null. Return which these were.

    Otherwise the next socket gets one of these numbers, what is printed ends up in it, and uvloop
    ends the process.
    """
    missing = []
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one
            os.set_inheritable(opened, True)
            missing.append(fd)
    return missing
