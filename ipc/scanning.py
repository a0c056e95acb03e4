"""Look through a frame before any value of it is built: is it one whole msgpack value?"""

from __future__ import annotations

import threading

import msgpack

from .errors import RemoteProtocolError

SCANNED = range(1024, 64 * 1024)
"""The sizes, in bytes, of the frames that are scanned before they are decoded, see `scan`."""


class _OfThread(threading.local):
    """What all connections of a thread share: a scanner takes 42 KB."""

    scanner: msgpack.Unpacker | None = None


_of_thread = _OfThread()


def scan(frame: memoryview) -> None:
    """Check that a frame is one whole value, before any of it is built.

    A list may announce as many items as its frame has bytes. A thousand such lists within each
    other bring no item, but allocate 12 MB for 4 kB of frame. Frames of other sizes are not
    scanned. In a larger one, such a list allocates memory that is never touched, which costs
    nothing. A smaller one costs less than scanning all small frames would, and it is the last
    frame of its peer.
    """
    scanner, _of_thread.scanner = _of_thread.scanner or msgpack.Unpacker(read_size=1024), None
    begin = scanner.tell()
    try:
        scanner.feed(frame)
        scanner.skip()
    except (ValueError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(
            f"frame of {len(frame)} bytes is not a msgpack value: {error or type(error).__name__}"
        ) from None
    if scanner.tell() - begin == len(frame):  # else it still holds what follows the value
        _of_thread.scanner = scanner
