"""The paths of pages, such as ``guide/start``."""

from __future__ import annotations

import re
import unicodedata

from ... import Refused
from ..fields import Given

MAX_PATH = 200
EXPECTED = "a page path such as 'guide/start' (parts of letters, digits, '_', '-', '.', joined by '/')"
# A part starts with a letter, a digit or '_'. So no part is hidden, is '.' or '..', or looks like
# an option.
# Marks, such as vowel signs, count as letters: many scripts cannot be written without them.
_PART = re.compile(r"\w[\w.\-]*")


def page_path(text: str) -> str | None:
    """Return ``text`` in Unicode's composed form, or None if it is not a page path.

    >>> page_path("guide/start"), page_path("../secret")
    ('guide/start', None)
    """
    path = unicodedata.normalize("NFC", text)
    if not 1 <= len(path) <= MAX_PATH:
        return None
    return path if all(_is_part(part) for part in path.split("/")) else None


def path_key(path: str) -> str:
    """Return the key of a page: ``Guide/Start`` and ``guide/start`` are the same page."""
    return path.casefold()


def read_path(given: Given) -> str:
    """Read the payload's ``path``; refuse text that is not a page path."""
    return _checked(given.text("path", most=2 * MAX_PATH))


def read_optional_path(given: Given) -> str | None:
    """Read the payload's ``path``, which may be absent."""
    text = given.text("path", most=2 * MAX_PATH, default=None)
    return None if text is None else _checked(text)


def _checked(text: str) -> str:
    path = page_path(text)
    if path is None:
        raise Refused(f"path: expected {EXPECTED} of at most {MAX_PATH} characters, got {text[:80]!r}", field="path")
    return path


def _is_part(part: str) -> bool:
    plain = "".join(char for char in part if not unicodedata.category(char).startswith("M"))
    return _PART.fullmatch(plain) is not None and not unicodedata.category(part[0]).startswith("M")
