"""The one exec of a worker that is a program of its own, and may not start another one.

The filter of system calls goes in before that exec, so it must let this one through and no later one.
It cannot count, nor read a path; it sees numbers. So the program is opened under the highest number
that a descriptor of this process can have, and exec is allowed from that number alone. The limit of
open files is lowered below it at the same time, and the exec closes it: no process of the mod can
ever have a descriptor with that number again.
"""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Mapping

from .refusal import NotEnforced

MOST_FILES = 16383
"""Open files of such a process. The kernel's table for so many takes 128 kB, and does not shrink."""


class LastExec:
    """A program that this process is to become.

    Attributes:
        descriptor: from which alone it can be started; -1: from its path.
    """

    def __init__(self, path: bytes) -> None:
        self._path = path
        self.descriptor = -1

    def be_the_last(self) -> str:
        """Open the program where no later descriptor can be. Return the means. Raise `NotEnforced`, OSError."""
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.read(fd, 2) == b"#!":
                text = (
                    f"{os.fsdecode(self._path)} is a script, whose interpreter would be started next; set 'exec: true'"
                )
                raise NotEnforced(text)
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            number = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard - 1, MOST_FILES)
            resource.setrlimit(resource.RLIMIT_NOFILE, (number + 1, hard))
            self.descriptor = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, number)
            usual = number if soft == resource.RLIM_INFINITY else min(soft, number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (usual, number))
        finally:
            os.close(fd)
        return "one exec"

    def go(self, argv: list[bytes], env: Mapping[bytes, bytes]) -> None:
        """Become the program. Returns only by OSError."""
        os.execve(self._path if self.descriptor < 0 else self.descriptor, list(argv), env)
