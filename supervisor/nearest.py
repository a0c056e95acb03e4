"""Which of the known words was probably meant by an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

MAX_KNOWN = 2000
"""Words that are compared: an unknown word must not cost more than some milliseconds."""
MAX_LENGTH = 100


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like ``word``; None if none is."""
    close = difflib.get_close_matches(word[:MAX_LENGTH], islice(known, MAX_KNOWN), 1)
    return close[0] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word; "" if no known word is like it."""
    meant = nearest(word, known)
    return f"; did you mean {meant!r}?" if meant is not None and meant != word else ""
