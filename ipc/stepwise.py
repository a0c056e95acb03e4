"""Decodes a large frame in steps, so that whoever reads it can serve others in between.

60 MB of small values take seconds to decode. msgpack's `Unpacker` keeps its place in a value that is
not complete yet, so it gets the frame piece by piece. The pieces are as long as a step may take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import msgpack

from .errors import RemoteProtocolError
from .messages import Scales, not_a_value

STEPWISE = 1024 * 1024
"""Bytes of a frame from which on it is decoded in steps. A smaller one takes 50 ms at the worst."""

FIRST, SHORTEST, LONGEST = 64 * 1024, 16 * 1024, 4 * 1024 * 1024
"""Bytes of one step. Dense values are slow, large texts are fast: each step tells how long the next
one is."""

QUICK, SLOW = 0.001, 0.004
"""Seconds: a quicker step is followed by one of twice the length, a slower one by half of it."""

# The version in Python reads an incomplete value anew with each piece.
_KEEPS_ITS_PLACE = msgpack.Unpacker.__module__ != "msgpack.fallback"


class StepwiseDecoder:
    """One large frame.

    Attributes:
        value: what the frame holds, once `steps` has ended.
        weight: about how many bytes of memory the value's containers take up.
    """

    def __init__(self, frame: memoryview, ext_hook: Callable[[int, bytes], Any]) -> None:
        self.value: Any = None
        self._frame = frame
        self._scales = Scales()
        self._unpacker = msgpack.Unpacker(
            timestamp=3,
            strict_map_key=False,
            use_list=True,
            ext_hook=ext_hook,
            read_size=len(frame),  # its buffer: it never has to grow
            max_buffer_size=len(frame),
            **self._scales.hooks(),
        )

    @property
    def weight(self) -> int:
        return self._scales.weight

    def steps(self) -> Iterator[None]:
        """Decode, yielding between two steps.

        Raises:
            RemoteProtocolError: the frame is not exactly one msgpack value, or one that is too heavy.
        """
        at, length = 0, FIRST if _KEEPS_ITS_PLACE else len(self._frame)
        while True:
            began = perf_counter()
            end = min(at + length, len(self._frame))
            if self._takes(self._frame[at:end], is_last=end == len(self._frame)):
                return
            at = end
            took = perf_counter() - began
            if took < QUICK:
                length = min(2 * length, LONGEST)
            elif took > SLOW:
                length = max(length // 2, SHORTEST)
            yield

    def _takes(self, piece: memoryview, *, is_last: bool) -> bool:
        """Decode one more piece. Returns whether it was the last, and the value is complete."""
        try:
            self._unpacker.feed(piece)
            self.value = self._unpacker.unpack()
            is_whole = is_last and self._unpacker.tell() == len(self._frame)
        except msgpack.OutOfData:
            if not is_last:
                return False
            is_whole = False
        except RemoteProtocolError:
            raise
        except (ValueError, TypeError, RecursionError, OverflowError, MemoryError, msgpack.UnpackException) as error:
            raise not_a_value(len(self._frame), error) from None
        if not is_whole:
            raise not_a_value(len(self._frame), ValueError("it ends too early, or too late"))
        return True
