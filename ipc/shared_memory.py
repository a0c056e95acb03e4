"""Large bytes beside the pipe: the sender lends them in shared memory, the receiver borrows them.

Through the pipe, 16 MB take eighty turns of two loops and six copies; through shared memory, two
copies. The message only says where in the memory the bytes lie. There is one piece of memory (a
memfd) for each direction of a pipe, and it holds the bytes of one message at a time. Its first byte
is the mark: set while the bytes are lent, cleared when the receiver has copied them and gives the
memory back. While it is set, large bytes go through the pipe. The memfd's descriptor travels with
the first message that uses it. The memory is freed when it has not been used for a while.

Neither side maps the memory, so nothing that one side does to it can crash the other. What is read
is a copy, so it does not change while it is looked at.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Any

from .errors import RemoteProtocolError

LARGE_BYTES = 64 * 1024
"""The size from which on bytes are lent. Below it, the pipe is as fast."""

BEGIN = 4096  # where lent bytes begin; the mark stands before them
_LENT, _GIVEN_BACK = b"\1", b"\0"

# macOS has no memfd.
is_possible = hasattr(os, "memfd_create") and hasattr(fcntl, "F_GET_SEALS")


def has_large(data: Any) -> bool:
    """Return whether a dict (a payload, a response's data) has large bytes among its values."""
    if type(data) is not dict or bytes not in map(type, data.values()):
        return False
    return any(type(value) is bytes and len(value) >= LARGE_BYTES for value in data.values())


class Lent:
    """Memory of ours, from which the peer borrows."""

    def __init__(self) -> None:
        self._fd = -1
        self.is_used = False  # since the last `shrink`
        self.to_send = -1  # the descriptor, until it is sent to the peer

    def lend(self, parts: list[bytes]) -> bool:
        """Copy the parts into the memory, one behind the other from `BEGIN` on.

        Returns:
            False if the memory is still lent, or there is none.
        """
        try:
            if self._fd < 0:
                self._fd = self.to_send = os.memfd_create("modvisor-lent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            elif os.pread(self._fd, 1, 0) == _LENT:
                return False
            at = BEGIN
            for part in parts:
                written = 0
                while written < len(part):
                    written += os.pwrite(self._fd, memoryview(part)[written:] if written else part, at + written)
                at += len(part)
            os.pwrite(self._fd, _LENT, 0)
        except OSError:  # out of memory, descriptors or disk quota: the pipe needs none of them
            return False
        self.is_used = True
        return True

    def shrink(self) -> bool:
        """Free the memory if it was not used since the last call. Return False if none is left."""
        if self._fd < 0:
            return False
        if not self.is_used and os.pread(self._fd, 1, 0) != _LENT:
            os.ftruncate(self._fd, BEGIN)
            return False
        self.is_used = False
        return True

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self.to_send = -1


class Borrowed:
    """Memory of the peer, from which we borrow."""

    def __init__(self) -> None:
        self._fd = -1

    def use(self, fd: int) -> None:
        """Borrow from the memory behind this descriptor from now on. `close` closes it.

        Raises:
            RemoteProtocolError: the descriptor is no memfd.
        """
        try:
            fcntl.fcntl(fd, fcntl.F_GET_SEALS)  # reading anything but a memfd could block forever
        except OSError:
            os.close(fd)
            raise RemoteProtocolError("the descriptor that came with a message is not one of shared memory") from None
        self.close()
        self._fd = fd

    def read(self, at: int, length: int) -> bytes:
        """Copy lent bytes out of the memory."""
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

    def give_back(self) -> None:
        """Clear the mark: all bytes of the message are copied, and the peer may lend again."""
        with suppress(OSError):  # the peer has sealed the memory: it has deprived itself of lending
            os.pwrite(self._fd, _GIVEN_BACK, 0)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
