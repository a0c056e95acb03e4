"""What a process may ask of Linux for itself and its descendants, see prctl(2)."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_libc = ctypes.CDLL(None, use_errno=True)


def set_name(name: bytes) -> None:
    """What the list of processes calls it: 15 bytes at most."""
    _libc.prctl(_PR_SET_NAME, name, 0, 0, 0)


def adopt_orphans() -> None:
    """Be the new parent of every descendant that loses its own."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def continue_with_parent() -> None:
    """Go on when the parent dies, if somebody has stopped us: there is work to do then, and nobody left to wake us."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)
