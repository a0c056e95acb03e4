"""What a reader is: it checks one value of a configuration and makes what the program works with.

A reader takes a value and its `Location`. It reports a mistake to the location and returns
`BROKEN`, so that its caller goes on and one run finds every mistake. Each reader also says in
words what it accepts; `docs/config.md` prints these words.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..yaml.source import BAD_CONFIG, Key, Source, shorten
from .schema_parts import Schema, of_type

ReadValue = Callable[[Any, "Location"], Any]


@dataclass(frozen=True, slots=True)
class Location:
    """Where a value stands, and the folder that its relative paths start from."""

    source: Source
    base_dir: Path
    key: Key = ()

    def __truediv__(self, part: str | int) -> Location:
        """Return the location of a mapping's key or a list's item."""
        return Location(self.source, self.base_dir, (*self.key, part))

    def wrong(self, message: str, code: str = BAD_CONFIG) -> Any:
        """Report a mistake here; returns `BROKEN`."""
        return self.source.report(self.key, message, code=code)


def written_plain(value: Any) -> str:
    """Write a value as a network file would have it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple, frozenset)) and not value:
        return "{}" if isinstance(value, dict) else "[]"
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, slots=True)
class Reader:
    """A function that reads a value, and what it accepts in words.

    Attributes:
        accepts: the kind of value, such as ``duration`` or ``1 or more``.
        written: writes a value that was read the way a network file would have it.
        schema: returns a JSON Schema that accepts at least the same values; `dict`: all values.
    """

    accepts: str
    read: ReadValue
    written: Callable[[Any], str] = written_plain
    schema: Callable[[], Schema] = dict

    def __call__(self, value: Any, at: Location) -> Any:
        return self.read(value, at)


def reader(accepts: str, *kinds: str, **schema: Any) -> Callable[[ReadValue], Reader]:
    """Make the decorated function a `Reader`.

    Args:
        kinds: the types of its JSON Schema, and ``schema`` what else that says.
    """
    return lambda read: Reader(accepts, read, schema=lambda: of_type(*kinds, **schema))


def got(value: Any) -> str:
    """Describe a wrong value in the words of the file."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"  # Python refuses to print integers of more than 4300 digits
    if isinstance(value, (str, int, float)):
        return shorten(repr(value))
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, (list, tuple)) else f"a {type(value).__name__}"


def hint(word: Any, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown word: the word that was probably meant."""
    names = sorted(known)
    # The comparison takes time in proportion to the length; no misspelt key has 100 letters.
    close = difflib.get_close_matches(word, names, 1) if isinstance(word, str) and len(word) < 100 else []
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(names) or 'none'}"
