"""Which of a mod's workers gets an event. Pure; the same after a restart and on any machine."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

from .errors import Unserializable
from .messages import pack

SOURCE, LEAST_LOADED = "source", "least_loaded"

_PATH = re.compile(r"payload(\.[A-Za-z0-9_-]+)+")


def is_partition(text: str) -> bool:
    """Return whether ``text`` is a valid ``partition_by``.

    That is `source`, `least_loaded` or a path such as ``payload.order.id``.
    """
    return text in (SOURCE, LEAST_LOADED) or _PATH.fullmatch(text) is not None


def key_of(partition_by: str, source_id: str | None, payload: Any) -> Any:
    """Return the value that chooses the worker: the one at the path, or else the source's id."""
    value = _value_at(partition_by, payload) if partition_by != SOURCE else None
    return source_id if value is None else value


def partition_of(key: Any, count: int) -> int:
    """Return the index of the worker, of ``count``, that gets all events with this key.

    Args:
        key: plain data (msgpack types), see `key_of`.
    """
    try:
        data = pack(key)
    except Unserializable:  # an event with this key cannot be sent to any worker
        return 0
    return int.from_bytes(blake2b(data, digest_size=8).digest()) % count


def _value_at(path: str, payload: Any) -> Any:
    for name in path.split(".")[1:]:
        if not isinstance(payload, dict):
            return None
        payload = payload.get(name)
    return payload
