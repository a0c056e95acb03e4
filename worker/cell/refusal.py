"""A part of a cell that this system does not enforce."""

from __future__ import annotations

import os


class NotEnforced(Exception):
    """The kernel, or what runs this container, refuses the means. The text says which, and why."""


def refused(what: str, number: int) -> NotEnforced:
    """Return the failure of a system call with this errno."""
    return NotEnforced(f"{what}: {os.strerror(number)}")
