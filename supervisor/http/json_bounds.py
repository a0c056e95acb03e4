"""How much a body holds, known while it arrives: before it is parsed, and without parsing it. Pure.

A value costs far more to parse, to copy and to send on than a byte of text. So values are counted,
and levels of nesting, in the pieces in which they come. What stands in a text does not count. Of a
body that is no JSON the counts mean nothing; the parser refuses it later.
"""

from __future__ import annotations

import re
from itertools import accumulate

from .bodies import TooLarge
from .wire import MAX_DEPTH, BadBody

# A text, or the beginning of one that goes on in the next piece: its quote and a backslash at its
# end are kept. Possessive, so that no piece takes longer than its length.
_TEXT = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|(")[^"\\]*+(?:\\.[^"\\]*+)*+(\\?)\Z',
    re.DOTALL,
)
_REST_OF_TEXT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_LEVELS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKETS = bytes(set(range(256)) - _LEVELS.keys())


def is_within(body: bytes, most: int) -> bool:
    """Return whether a whole body is within the bounds for certain, whatever is text in it."""
    opened = body.count(b"[") + body.count(b"{")
    return opened <= MAX_DEPTH and opened + body.count(b",") <= most


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

    def feed(self, piece: bytes) -> None:
        """Count a piece; raises `TooLarge` or `BadBody`."""
        structure = _TEXT.sub(rb"\1\2", self._after_text(piece))
        if structure.endswith(b"\\"):
            self._is_escaping, structure = True, structure[:-1]
        if structure.endswith(b'"'):
            self._in_text, structure = True, structure[:-1]
        self._count(structure)

    def _after_text(self, piece: bytes) -> bytes:
        """Return what follows the text in which the last piece ended."""
        if not self._in_text or not piece:
            return piece
        start = 1 if self._is_escaping else 0
        self._is_escaping = False
        rest = _REST_OF_TEXT.match(piece, start)
        assert rest is not None  # it matches nothing at all, too
        end = rest.end()
        if end == len(piece):
            return b""
        if piece[end : end + 1] == b"\\":  # at the end of the piece
            self._is_escaping = True
            return b""
        self._in_text = False
        return piece[end + 1 :]

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
