"""How much a body holds, known while it arrives: before it is parsed, and without parsing it. Pure.

A value costs far more to parse, to copy and to send on than a byte of text. So values are counted,
and levels of nesting, in the pieces in which they come. What stands in a text does not count. Of a
body that is no JSON the counts mean nothing; the parser refuses it later.
"""

from __future__ import annotations

from itertools import accumulate

from .as_json import MAX_DEPTH, BadBody
from .bodies import TooLarge

_LEVELS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - _LEVELS.keys())


def is_within(body: bytes | bytearray, most: int) -> bool:
    """Return whether a whole body is within the bounds for certain, whatever is text in it."""
    opened = body.count(b"[") + body.count(b"{")
    return opened <= MAX_DEPTH and (len(body) <= most or opened + body.count(b",") <= most)  # each takes a byte


class JsonBounds:
    """Counts what comes, and refuses what is more than `most` values or deeper than `MAX_DEPTH`.

    Attributes:
        values: how many have come: items of arrays, and keys with their values.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.values = 0
        self._depth = 0
        self._in_text = False
        self._is_escaping = False  # the last byte was a backslash in a text

    def feed(self, piece: bytes | bytearray) -> None:
        """Count a piece; raises `TooLarge` or `BadBody`."""
        if not piece:
            return
        if self._is_escaping:
            piece = piece[1:]
        # Without what is escaped, every quote begins or ends a text.
        unescaped = piece.replace(b"\\\\", b"")
        self._is_escaping = unescaped.endswith(b"\\")
        parts = unescaped.replace(b'\\"', b"").split(b'"')
        structure = b"".join(parts[self._in_text :: 2])
        self._in_text ^= len(parts) % 2 == 0
        self._count(structure)

    def _count(self, structure: bytes) -> None:
        opened = structure.count(b"[") + structure.count(b"{")
        self.values += structure.count(b",") + opened
        if self.values > self._most:
            raise TooLarge(f"the body holds more than {self._most} values ('http.json_values')", limit=self._most)
        brackets = structure.translate(None, _NO_BRACKETS)
        if self._depth + opened > MAX_DEPTH:
            deepest = max(accumulate((_LEVELS[bracket] for bracket in brackets), initial=self._depth))
            if deepest > MAX_DEPTH:
                raise BadBody(f"the body is nested deeper than {MAX_DEPTH} levels")
        self._depth += 2 * opened - len(brackets)
