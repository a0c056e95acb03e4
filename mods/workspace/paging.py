"""Answer lists page by page.

The sender gives ``limit`` and ``cursor``; the answer has ``has_more`` and ``next``, the next
cursor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .. import EventResponse
from .fields import Given

T = TypeVar("T")

LIMIT = 50
MAX_LIMIT = 200
MAX_BYTES = 4_000_000  # of a page: an answer travels in one frame, and many clients read it whole
MAX_ID = 2**62


def read_limit(given: Given) -> int:
    """Read how many items the sender wants."""
    return given.integer("limit", least=1, most=MAX_LIMIT, default=LIMIT)


def read_cursor(given: Given, *, default: int = 0) -> int:
    """Read a cursor that is a number: the ``next`` of the page before."""
    return given.integer("cursor", least=0, most=MAX_ID, default=default)


def list_answer(
    field: str,
    rows: Iterable[dict[str, Any]],
    limit: int,
    key: str,
    said: str = "",
    *,
    size: Callable[[dict[str, Any]], int] | None = None,
) -> EventResponse:
    """Answer with one page of ``rows`` in the field ``field`` of the data.

    Args:
        key: the column by which the rows are ordered. Its value in the last row is the next cursor.
        said: what the message calls the rows, if not ``field``.
        size: see `cut`.
    """
    page, more = cut(rows, limit, lambda row: row[key], size)
    return EventResponse(True, f"{len(page)} {said or field}.", {field: page, **more})


def cut(
    rows: Iterable[T], limit: int, key: Callable[[T], Any], size: Callable[[T], int] | None = None
) -> tuple[list[T], dict[str, Any]]:
    """Cut a page of at most ``limit`` rows.

    Args:
        rows: at least one more than ``limit``, if there are so many: the extra row says that there
            is more.
        size: returns about how many bytes a row takes. Give it where rows may be large: the page
            then ends at `MAX_BYTES` too.

    Returns:
        the rows of the page, and ``{"has_more", "next"}``. ``next`` is the ``key`` of the last row,
        or None at the end.
    """
    page: list[T] = []
    total = 0
    for row in rows:
        total += 0 if size is None else size(row)
        if len(page) == limit or (page and total > MAX_BYTES):
            return page, {"has_more": True, "next": key(page[-1])}
        page.append(row)
    return page, {"has_more": False, "next": None}
