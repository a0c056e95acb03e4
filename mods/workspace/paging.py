"""Lists are answered page by page: ``limit`` and ``cursor`` go in, ``has_more`` and ``next`` (the next cursor) come out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .. import EventResponse
from .fields import Given

T = TypeVar("T")

LIMIT = 50
MAX_LIMIT = 200
MAX_BYTES = 4_000_000  # of a page; an answer travels in one frame, and many clients read it at once
MAX_ID = 2**62


def read_limit(given: Given) -> int:
    """How many items the sender wants."""
    return given.integer("limit", least=1, most=MAX_LIMIT, default=LIMIT)


def read_cursor(given: Given, *, default: int = 0) -> int:
    """The ``next`` of the page before, where it is a number."""
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
        key: the column by which the rows are ordered; `cut` makes the next cursor of it.
        said: what the message calls the rows, where that is not ``field``.
    """
    page, more = cut(rows, limit, lambda row: row[key], size)
    return EventResponse(True, f"{len(page)} {said or field}.", {field: page, **more})


def cut(
    rows: Iterable[T], limit: int, key: Callable[[T], Any], size: Callable[[T], int] | None = None
) -> tuple[list[T], dict[str, Any]]:
    """A page of ``rows``, of which one more than ``limit`` was fetched to know whether there is more.

    Args:
        size: about how many bytes a row takes. Given where rows may be large: the page then ends at `MAX_BYTES` too.

    Returns:
        the rows of the page, and ``{"has_more", "next"}``: ``next`` is the ``key`` of the last row, None at the end.
    """
    page: list[T] = []
    total = 0
    for row in rows:
        total += 0 if size is None else size(row)
        if len(page) == limit or (page and total > MAX_BYTES):
            return page, {"has_more": True, "next": key(page[-1])}
        page.append(row)
    return page, {"has_more": False, "next": None}
