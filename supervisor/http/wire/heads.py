"""The head of an ordinary request, read in one pass. Pure.

Nearly all requests of agents look alike: GET or POST, plain header lines, a short body of a stated
length. `read_head` knows that form alone, and takes a tenth of the time that h11 takes. Everything
else is left to h11, which knows all of HTTP and refuses what is no HTTP.

So `read_head` may leave any head to h11, but must never read a head differently: a request that two
readers understand in two ways is how requests are smuggled. A test compares both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl

# No keys of the network file: what is above them is read by h11, which has bounds of its own (see `parser`).
MOST_LINES = 64
MOST_DIGITS = 7  # of a Content-Length

# Possessive, so that no head takes longer than its length.
_HEAD = re.compile(
    rb"(GET|POST) (/[!->@-~]*+)(?:\?([!-~]*+))? HTTP/1\.1((?:\r\n[A-Za-z0-9_-]++:[\t -~]*+){1,%d})\r\n\r\n" % MOST_LINES
)
_ESCAPED = re.compile(r"[%+]")

# Headers that change how a request is read, or how its connection goes on.
_UNUSUAL = frozenset({"transfer-encoding", "expect", "upgrade", "origin", "trailer", "te", "http2-settings"})


class Head(NamedTuple):
    """What stands before the body of a request.

    Attributes:
        headers: by name in lower case.
        size: bytes of the head; `length`: of the body.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    size: int
    length: int


def read_head(data: bytes) -> Head | None:
    """Return the head with which `data` begins; None if it is not whole, or no ordinary one."""
    found = _HEAD.match(data)
    if found is None:
        return None
    method, path, query, text = found.groups(b"")
    lines = [line.partition(":") for line in text[2:].decode("ascii").split("\r\n")]
    headers = {name.lower(): value.strip(" \t") for name, _, value in lines}
    if len(headers) != len(lines):  # a header comes twice
        return None
    length = _length(method, headers)
    if length is None or "host" not in headers:
        return None
    return Head(method.decode(), path.decode(), query.decode(), headers, found.end(), length)


def _length(method: bytes, headers: dict[str, str]) -> int | None:
    """Return the length of the body; None if the headers are not those of an ordinary request."""
    if not _UNUSUAL.isdisjoint(headers) or headers.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    announced = headers.get("content-length", "0")
    if not announced.isdigit() or len(announced) > MOST_DIGITS:
        return None
    length = int(announced)
    return None if length and method == b"GET" else length


def read_query(query: str) -> Mapping[str, str]:
    """Return the keys of a query with their values. Of a repeated key the last value counts."""
    if not query:
        return {}
    if _ESCAPED.search(query):
        return dict(parse_qsl(query, keep_blank_values=True))
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    return {name: value for name, _, value in pairs}
