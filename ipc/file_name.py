"""The names of a mod's files (`context.files`)."""

from __future__ import annotations

from typing import Any

from .errors import InvalidEvent, shown

MOST_BYTES = 200
"""Of a name, in UTF-8: in a cluster a name becomes part of a subject, three times as long."""


def checked_file_name(name: Any) -> str:
    """Return the name of a file.

    Raises:
        InvalidEvent: it is none.
    """
    if type(name) is not str or not name or not name.isprintable():
        raise InvalidEvent(f"the name of a file must be text that can be printed, got {shown(name)}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidEvent(f"the name of a file must be text that UTF-8 can hold, got {shown(name)}") from None
    if size > MOST_BYTES:
        raise InvalidEvent(
            f"the name of a file takes {size} bytes, more than the {MOST_BYTES} that it may: {shown(name)}"
        )
    return name
