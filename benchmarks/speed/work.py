"""The work, the same for everyone: a small event and its answer, as plain data."""

from __future__ import annotations

from itertools import count
from typing import Any

PING = "bench.ping"
PATH = "bench.path"
BLOB = "bench.blob"
NEWS = "bench.news"

EVENT_SIZE = 178
"""Bytes of `ping` as msgpack, as it travels. The floor passes as many."""

BLOBS = {"blob_1_MBps": 1024 * 1024, "blob_16_MBps": 16 * 1024 * 1024}
"""Key of the row to the bytes of its payload."""

Fields = dict[str, Any]

_numbers = count(1)  # no id comes twice in a process: a network would answer it from memory


def ping(destination: str | None = "mod:echo", name: str = PING) -> Fields:
    """Return the fields of a new event."""
    n = next(_numbers)
    return {
        "event_name": name,
        "source_id": "agent:alice",
        "destination_id": destination,
        "event_id": f"{n:032x}",
        "payload": {"message": "hello, modvisor!", "i": n & 127, "tags": ["a", "b"]},
    }


def blob(data: bytes, destination: str | None = "mod:echo") -> Fields:
    """Return the fields of a new event whose payload is `data`."""
    return {**ping(destination, BLOB), "payload": {"blob": data}}


def echo(fields: Fields) -> Fields:
    """Return the answer to a `ping` or a `blob`."""
    payload = fields["payload"]
    data = {"blob": payload["blob"]} if "blob" in payload else {"pong": payload["i"]}
    return {"success": True, "data": data}


def check(fields: Fields, success: bool, data: Any) -> None:
    """Raise `WrongAnswer` if this is not the answer to a `ping` or a `blob` with these fields.

    Of a blob only the size is compared: to compare its bytes would put them into the cache.
    """
    payload = fields["payload"]
    if "blob" in payload:
        right = success and len(data["blob"]) == len(payload["blob"])
    else:
        right = success and data == {"pong": payload["i"]}
    if not right:
        raise WrongAnswer(
            f"the answer to {fields['event_name']} {payload!r:.200} is {data!r:.200} (success: {success})"
        )


class WrongAnswer(Exception):
    """A participant did not do the work."""
