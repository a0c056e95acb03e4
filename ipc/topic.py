"""Event names and patterns: grammar and matching, for router, handlers and subscriptions.

An event name is ``domain.entity.action``: at least two parts of lower-case letters, digits and
underscores. A pattern is an exact name, ``a.*`` (any depth below ``a``, not ``a`` itself) or ``*``
(everything).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Generic, TypeVar

from .errors import InvalidEvent, shown

T = TypeVar("T")

MAX_NAME = 255  # names are keys of caches and logs, not a place for data
_NAME = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)+")
_PREFIX = re.compile(r"[a-z0-9_]+(?:\.[a-z0-9_]+)*")


@lru_cache(maxsize=4096)
def check_event_name(name: str) -> str:
    """Return ``name`` if it is an event name, else raise `InvalidEvent`."""
    if not isinstance(name, str) or len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise InvalidEvent(
            f"event_name {shown(name)}: expected lower-case parts joined by dots, such as 'wiki.page.create' "
            f"(letters, digits, underscores, at least two parts, at most {MAX_NAME} characters)"
        )
    return name


def check_pattern(pattern: str) -> str:
    """Return ``pattern`` if it is an exact name, ``a.*`` or ``*``, else raise `InvalidEvent`."""
    if isinstance(pattern, str) and len(pattern) <= MAX_NAME:
        if pattern == "*" or _NAME.fullmatch(pattern):
            return pattern
        if pattern.endswith(".*") and _PREFIX.fullmatch(pattern[:-2]):
            return pattern
    raise InvalidEvent(
        f"pattern {shown(pattern)}: expected an event name ('wiki.page.create'), a prefix ('wiki.*') or '*'"
    )


def matches(pattern: str, name: str) -> bool:
    """Return whether ``pattern`` matches the event ``name``. Both are checked already."""
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return name.startswith(pattern[:-1])
    return pattern == name


def specificity(pattern: str) -> int:
    """Return a sort key; higher is more specific.

    An exact name beats a long prefix, which beats a short prefix, which beats ``*``.
    """
    if pattern == "*":
        return 0
    if pattern.endswith(".*"):
        return pattern.count(".")
    return MAX_NAME


class TopicTable(Generic[T]):
    """A table of patterns with values. A lookup takes as many steps as the event name has parts.

    >>> table = TopicTable[str]()
    >>> table.add("*", "all"); table.add("wiki.*", "wiki"); table.add("wiki.page.get", "get")
    >>> table.match("wiki.page.get")
    ['get', 'wiki', 'all']
    """

    __slots__ = ("_everything", "_exact", "_prefixes")

    def __init__(self) -> None:
        self._exact: dict[str, list[T]] = {}
        self._prefixes: dict[str, list[T]] = {}
        self._everything: list[T] = []

    def add(self, pattern: str, value: T) -> None:
        check_pattern(pattern)
        if pattern == "*":
            self._everything.append(value)
        elif pattern.endswith(".*"):
            self._prefixes.setdefault(pattern[:-2], []).append(value)
        else:
            self._exact.setdefault(pattern, []).append(value)

    def match(self, name: str) -> list[T]:
        """Return the values whose pattern matches ``name``.

        The most specific pattern comes first; equal ones stand in the order of `add`.
        """
        found = list(self._exact.get(name, ()))
        if self._prefixes:
            prefix = name
            while (cut := prefix.rfind(".")) > 0:
                prefix = prefix[:cut]
                found.extend(self._prefixes.get(prefix, ()))
        found.extend(self._everything)
        return found
