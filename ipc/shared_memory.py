"""Large bytes beside the pipe: the sender lays them down in shared memory, and the message only says where they lie.

Through the pipe 16 MB take eighty turns of two loops and six copies; laid down they take two. A shelf belongs to one direction
of one channel and holds the bytes of one message at a time: its first byte says whether they are still to be taken, and while
they are, other messages go through the pipe. Its memory (a memfd, whose descriptor travels with the first message that uses
it) is given back when it has not been used for a while.

Neither side maps the memory, so nothing that the other side does to it can crash this one; and what is read is a copy, so it
does not change any more while it is looked at.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Any

from .errors import RemoteProtocolError

LARGE_BYTES = 64 * 1024
"""Bytes from which on a value is laid down: below, the pipe is as fast."""

BEGIN = 4096  # where the bytes begin; before them stands the mark
_LAID, _TAKEN = b"\1", b"\0"

# macOS has no memfd.
is_possible = hasattr(os, "memfd_create") and hasattr(fcntl, "F_GET_SEALS")


def has_large(data: Any) -> bool:
    """Whether a dict (a payload, an answer's data) has large bytes among its values."""
    if type(data) is not dict or bytes not in map(type, data.values()):
        return False
    return any(type(value) is bytes and len(value) >= LARGE_BYTES for value in data.values())


class Lent:
    """Where we lay down what the peer takes."""

    def __init__(self) -> None:
        self._fd = -1
        self.is_used = False  # since `shrink` was last called
        self.to_send = -1  # the descriptor, until the peer has been sent it

    def lend(self, parts: list[bytes]) -> bool:
        """Lay down the parts one behind the other, from `BEGIN` on; False if there is no room now."""
        try:
            if self._fd < 0:
                self._fd = self.to_send = os.memfd_create("modvisor-shelf", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            elif os.pread(self._fd, 1, 0) == _LAID:
                return False
            at = BEGIN
            for part in parts:
                written = 0
                while written < len(part):
                    written += os.pwrite(self._fd, memoryview(part)[written:] if written else part, at + written)
                at += len(part)
            os.pwrite(self._fd, _LAID, 0)
        except OSError:  # no memory, no descriptors, or a limit on files: the pipe needs none of them
            return False
        self.is_used = True
        return True

    def shrink(self) -> bool:
        """Give the memory back if it was not used since the last call; False if there is none left."""
        if self._fd < 0:
            return False
        if not self.is_used and os.pread(self._fd, 1, 0) != _LAID:
            os.ftruncate(self._fd, BEGIN)
            return False
        self.is_used = False
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self.to_send = -1


class Borrowed:
    """Where the peer lays down what we take."""

    def __init__(self) -> None:
        self._fd = -1

    def use(self, fd: int) -> None:
        """The descriptor that the peer has sent; ours to close. Raises `RemoteProtocolError` if it is no memfd."""
        try:
            fcntl.fcntl(fd, fcntl.F_GET_SEALS)  # else to read from it could block, for ever
        except OSError:
            os.close(fd)
            raise RemoteProtocolError("the descriptor that came with a message is not one of shared memory") from None
        self.close()
        self._fd = fd

    def take(self, at: int, length: int) -> bytes:
        """The bytes that lie there."""
        if self._fd < 0 or at < BEGIN:
            raise RemoteProtocolError("a message speaks of bytes in shared memory that was never sent")
        try:
            data = os.pread(self._fd, length, at)
            while len(data) < length:
                more = os.pread(self._fd, length - len(data), at + len(data))
                if not more:
                    raise RemoteProtocolError(f"shared memory ends after {len(data)} of {length} bytes")
                data += more
        except OSError as error:
            raise RemoteProtocolError(f"shared memory cannot be read at {at}: {error.strerror}") from None
        return data

    def clear(self) -> None:
        """All of a message was taken: the next may be laid down."""
        with suppress(OSError):  # the peer has sealed it: then it is the peer's that nothing more can be laid down
            os.pwrite(self._fd, _TAKEN, 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
