"""How a process that is there for a network alone runs it best; `modvisor run` does. A program of your own may do the same."""

from __future__ import annotations

import gc
from importlib.util import find_spec

YOUNG = 10_000
"""Objects that may be made before the collector looks at the new ones. Every event makes some tens, all of which are gone when
it is answered: with Python's 700 a sixth of a busy network's time went to looking at those that were not answered yet."""


def has_uvloop() -> bool:
    """Whether the faster event loop is installed (``pip install modvisor[fast]``)."""
    return find_spec("uvloop") is not None


def ease_collector() -> None:
    """Have Python's garbage collector leave alone what is there now, and look less often at what is new.

    To be called once the network serves. What is there stays for good, so no full pass need look at it again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
