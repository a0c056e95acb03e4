"""Large bytes beside the pipe: the sender lends them in shared memory, the receiver borrows them.

Through the pipe, 16 MB take eighty turns of two loops and six copies; through shared memory, two
copies. The message only says where in the memory the bytes lie. There is one piece of memory (a
memfd) for each direction of a pipe, and it holds the bytes of one message at a time. Its first byte
is the mark: set while the bytes are lent, cleared when the receiver has copied them and gives the
memory back. While it is set, large bytes go through the pipe. The memfd's descriptor travels with
the first message that uses it. The memory is freed when it has not been used for a while.

What is read is a copy, so it does not change while it is looked at.

**Mappings.** To copy to and from a mapping takes two thirds of the time of `pwrite` and `pread`. But
a process that touches a mapped page behind the end of its file is killed. So only memory that is
sealed against shrinking is mapped. A peer can still make holes in it. Whoever touches a hole fills
it, which takes his time and counts against his memory limit:

- `Lent` watches for page faults: memory that is filled causes none. If there are holes, it stops
  using the mapping.
- `Borrowed` maps only the memory of a peer that it trusts: a worker maps the core's. `pread` fills
  no holes.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
from contextlib import suppress
from typing import Any

from .errors import RemoteProtocolError

LARGE_BYTES = 64 * 1024
"""The size from which on bytes are lent. Below it, the pipe is as fast."""

BEGIN = 4096  # where lent bytes begin; the mark stands before them
_LENT, _GIVEN_BACK = b"\1", b"\0"

_GROWTH = 256 * 1024  # mapped memory grows by multiples of it
_PIECE = 1024 * 1024  # bytes that are copied to a mapping between two looks at page faults
_FEW_FAULTS = 8  # in one piece; the bytes that are lent may cause some, too

# macOS has no memfd.
is_possible = hasattr(os, "memfd_create") and hasattr(fcntl, "F_GET_SEALS")


def _can_map() -> bool:
    """Return whether memory can be mapped, and whether it is safe.

    Where memory is never overcommitted, the kernel may kill who fills a hole.
    """
    if not is_possible or BEGIN % mmap.PAGESIZE or not hasattr(mmap, "MADV_REMOVE"):
        return False
    try:
        with open("/proc/sys/vm/overcommit_memory", "rb") as file:
            return file.read(1) != b"2"
    except OSError:
        return False


is_mappable = _can_map()


def has_large(data: Any) -> bool:
    """Return whether a dict (a payload, a response's data) has large bytes among its values."""
    if type(data) is dict:
        for value in data.values():  # a loop is quicker here than `any`, whatever the length
            if type(value) is bytes and len(value) >= LARGE_BYTES:
                return True
    return False


class Lent:
    """Memory of ours, from which the peer borrows."""

    def __init__(self) -> None:
        self._fd = -1
        self._is_mapping = is_mappable
        self._mapped: mmap.mmap | None = None
        self._size = BEGIN  # of the memory; it is sealed, so it never becomes shorter
        self.is_used = False  # since the last `shrink`
        self.to_send = -1  # the descriptor, until it is sent to the peer

    def lend(self, parts: list[bytes]) -> bool:
        """Copy the parts into the memory, one behind the other from `BEGIN` on.

        Returns:
            False if the memory is still lent, or there is none.
        """
        try:
            if self._fd < 0:
                self._create()
            elif os.pread(self._fd, 1, 0) == _LENT:
                return False
            at = BEGIN
            self._make_room(at + sum(map(len, parts)))
            for part in parts:
                self._put(part, at)
                at += len(part)
            os.pwrite(self._fd, _LENT, 0)
        except OSError:  # out of memory, descriptors or disk quota: the pipe needs none of them
            return False
        self.is_used = True
        return True

    def _create(self) -> None:
        self._fd = self.to_send = os.memfd_create("modvisor-lent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        if is_mappable:
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)

    def _make_room(self, size: int) -> None:
        """Have memory of this size, mapped and filled if it is to be mapped."""
        rounded = -(-size // _GROWTH) * _GROWTH
        if rounded > self._size:
            os.ftruncate(self._fd, rounded)
            self._size = rounded
        if self._is_mapping and (self._mapped is None or len(self._mapped) < size):
            self._unmap()
            self._mapped = mmap.mmap(self._fd, rounded, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)

    def _put(self, part: bytes, at: int) -> None:
        """Copy a part into the memory."""
        view, done = memoryview(part), 0
        while done < len(part):
            piece = view[done : done + _PIECE]
            if self._mapped is None:
                done += os.pwrite(self._fd, piece, at + done)
                continue
            before = _page_faults()
            self._mapped[at + done : at + done + len(piece)] = piece
            done += len(piece)
            if _page_faults() - before > _FEW_FAULTS and os.lseek(self._fd, 0, os.SEEK_HOLE) < len(self._mapped):
                self._is_mapping = False  # the peer makes holes
                self._unmap()

    def shrink(self) -> bool:
        """Free the memory if it was not used since the last call. Return False if none is left."""
        if self._fd < 0:
            return False
        if not self.is_used and os.pread(self._fd, 1, 0) != _LENT:
            self._free()
            return False
        self.is_used = False
        return True

    def _free(self) -> None:
        self._unmap()
        with suppress(OSError):
            if not is_mappable:
                os.ftruncate(self._fd, BEGIN)
                self._size = BEGIN
            elif self._size > BEGIN:
                with mmap.mmap(self._fd, self._size) as whole:
                    whole.madvise(mmap.MADV_REMOVE, BEGIN)

    def _unmap(self) -> None:
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None

    def close(self) -> None:
        self._unmap()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = self.to_send = -1


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt


class Borrowed:
    """Memory of the peer, from which we borrow.

    Args:
        is_trusted: the peer makes no holes in it.
    """

    def __init__(self, is_trusted: bool = False) -> None:
        self._is_trusted = is_trusted
        self._is_mapping = False
        self._fd = -1
        self._mapped: mmap.mmap | None = None

    def use(self, fd: int) -> None:
        """Borrow from the memory behind this descriptor from now on. `close` closes it.

        Raises:
            RemoteProtocolError: the descriptor is no memfd.
        """
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)  # reading anything but a memfd could block forever
        except OSError:
            os.close(fd)
            raise RemoteProtocolError("the descriptor that came with a message is not one of shared memory") from None
        self.close()
        self._fd = fd
        self._is_mapping = self._is_trusted and is_mappable and bool(seals & fcntl.F_SEAL_SHRINK)

    def read(self, at: int, length: int) -> bytes:
        """Copy lent bytes out of the memory."""
        if self._fd < 0 or at < BEGIN:
            raise RemoteProtocolError("a message speaks of bytes in shared memory that was never sent")
        try:
            if self._is_mapping and (mapped := self._map(at + length)) is not None:
                return mapped[at : at + length]
            data = os.pread(self._fd, length, at)
            while len(data) < length:
                more = os.pread(self._fd, length - len(data), at + len(data))
                if not more:
                    raise RemoteProtocolError(f"shared memory ends after {len(data)} of {length} bytes")
                data += more
        except OSError as error:
            raise RemoteProtocolError(f"shared memory cannot be read at {at}: {error.strerror}") from None
        return data

    def _map(self, size: int) -> mmap.mmap | None:
        """Return a mapping of so many bytes, None if the memory has fewer."""
        if self._mapped is None or len(self._mapped) < size:
            if os.fstat(self._fd).st_size < size:
                return None
            self._unmap()
            self._mapped = mmap.mmap(self._fd, 0, prot=mmap.PROT_READ)
        return self._mapped

    def _unmap(self) -> None:
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None

    def give_back(self) -> None:
        """Clear the mark: all bytes of the message are copied, and the peer may lend again."""
        with suppress(OSError):  # the peer has sealed the memory: it has deprived itself of lending
            os.pwrite(self._fd, _GIVEN_BACK, 0)

    def close(self) -> None:
        self._unmap()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
