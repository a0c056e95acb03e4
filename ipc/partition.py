"""Which worker of a mod with several gets an event: pure, and the same after a restart and on any machine."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any

from .errors import Unserializable
from .messages import pack

SOURCE, LEAST_LOADED = "source", "least_loaded"

_PATH = re.compile(r"payload(\.[A-Za-z0-9_-]+)+")


def is_partition(text: str) -> bool:
    """Whether ``text`` says how to part the events: `source`, `least_loaded` or a path such as ``payload.order.id``."""
    return text in (SOURCE, LEAST_LOADED) or _PATH.fullmatch(text) is not None


def key_of(partition_by: str, source_id: str | None, payload: Any) -> Any:
    """What decides: the value at the path, or else the source's id."""
    value = _value_at(partition_by, payload) if partition_by != SOURCE else None
    return source_id if value is None else value


def partition_of(key: Any, count: int) -> int:
    """The index of the worker, of ``count``, that events with ``key`` go to: equal keys go to the same one.

    Args:
        key: plain data (msgpack types): what is at the mod's ``partition_by`` path of the payload, or the source's id.
    """
    try:
        data = pack(key)
    except Unserializable:  # an event with it can be sent to no worker
        return 0
    return int.from_bytes(blake2b(data, digest_size=8).digest()) % count


def _value_at(path: str, payload: Any) -> Any:
    for name in path.split(".")[1:]:
        if not isinstance(payload, dict):
            return None
        payload = payload.get(name)
    return payload
