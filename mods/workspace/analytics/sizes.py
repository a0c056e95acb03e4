"""Estimate the size of a payload without encoding it again."""

from __future__ import annotations

from itertools import islice
from typing import Any

MAX_ITEMS = 500
"""Items to look at in all. A megabyte of numbers must not take milliseconds for each event."""

MAX_SAMPLE = 64
"""Items to look at in one container. The size of a longer one is scaled up from its first items."""

_NUMBER = 5  # bytes: between 1 (small) and 9 (a float)


def size_of(payload: dict[str, Any]) -> int:
    """Return about the payload's size as msgpack, in bytes. Every number counts as 5 bytes."""
    size = 1.0
    left = MAX_ITEMS
    waiting: list[tuple[Any, float]] = [(payload, 1.0)]  # containers, each with its weight
    for value, weight in waiting:
        count = len(value)
        if left <= 0:
            size += weight * count * _NUMBER
            continue
        sampled = count > MAX_SAMPLE
        left -= MAX_SAMPLE if sampled else count
        if sampled:
            weight *= count / MAX_SAMPLE
        is_dict = type(value) is dict
        for item in islice(value, MAX_SAMPLE) if sampled else value:
            if is_dict:
                size += weight * (_scalar(item) if type(item) is not str else len(item) + 1)
                item = value[item]
            if type(item) is str:
                length = len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
                size += weight * (length + (1 if length < 32 else 3))
            elif type(item) is dict or type(item) is list:
                size += weight * (1 if len(item) < 16 else 3)
                waiting.append((item, weight))
            else:
                size += weight * _scalar(item)
    return int(size)


def _scalar(item: Any) -> int:
    if item is None or item is True or item is False:
        return 1
    return len(item) + 3 if type(item) is bytes else _NUMBER
