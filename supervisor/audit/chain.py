"""The chain of the audit: how a record becomes a line that nobody can change without the key. Pure.

A line is a JSON object. Its first key is `n`, its number, and its last two keys are `prev`, the first
half of the MAC of the line before it, and `mac`, the HMAC-SHA256 of all that stands before `mac`.

So a line that was changed fails by itself, a missing number shows a line that was removed, and no two
lines can have one number without one of them naming another `prev`. Only the end can be cut off without
a trace in the file: for that the journal keeps the `seal` of the newest line.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

START = "0" * 32
"""The `prev` of the first line."""

_MAC = b',"mac":"'
_TAIL = len(_MAC) + 64 + len(b'"}')


@dataclass(frozen=True, slots=True)
class Head:
    """The newest line of an audit.

    Attributes:
        number: 0: there is no line yet.
        mac: in hexadecimal digits.
    """

    number: int = 0
    mac: str = START


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was written with the key.

    Attributes:
        record: without `n`, `prev` and `mac`.
    """

    number: int
    prev: str
    mac: str
    record: dict[str, Any]

    @property
    def head(self) -> Head:
        return Head(self.number, self.mac)


def chained(key: bytes, record: Mapping[str, Any], before: Head) -> tuple[bytes, Head]:
    """Return a record as the line that follows ``before``, and the new head."""
    number = before.number + 1
    text = json.dumps({"n": number, **record, "prev": before.mac[:32]}, separators=(",", ":"))
    body = text[:-1].encode("ascii")
    mac = hmac.digest(key, body, "sha256").hex()
    return body + _MAC + mac.encode() + b'"}\n', Head(number, mac)


def checked(key: bytes, line: bytes) -> Line | None:
    """Return what a line says; None if it was not written with this key.

    Args:
        line: with or without its line break.
    """
    line = line.removesuffix(b"\n")
    body, mac = line[:-_TAIL], line[-_TAIL + len(_MAC) : -2]
    if line != body + _MAC + mac + b'"}':
        return None
    if not hmac.compare_digest(hmac.digest(key, body, "sha256").hex().encode(), mac):
        return None
    data = json.loads(body + b"}")
    number, prev = data.pop("n"), data.pop("prev")
    return Line(number, prev, mac.decode(), data)


def seal(key: bytes, head: Head) -> bytes:
    """Return the seal of a head. Nobody can make the seal of an earlier one from the file alone."""
    return hmac.digest(key, b"head %d %b" % (head.number, head.mac.encode()), "sha256")
