"""Settings for a process that runs nothing but a network, as `modvisor run` does.

A program of your own may use them too.
"""

from __future__ import annotations

import gc
import os
from importlib.util import find_spec

YOUNG = 10_000
"""New objects after which Python's garbage collector runs.

An event makes some tens of objects, and they are gone when it is answered. With Python's own 700, a
busy network spent a sixth of its time looking at the objects of events in flight."""


def has_uvloop() -> bool:
    """Whether the faster event loop is installed (``pip install modvisor[fast]``)."""
    return find_spec("uvloop") is not None


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
