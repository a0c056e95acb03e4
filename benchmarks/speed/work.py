"""The work that everybody is given: the same small event, the same answer. Plain data: what the peers run needs no modvisor."""

from __future__ import annotations

from itertools import count
from typing import Any

PING = "bench.ping"
PATH = "bench.path"
BLOB = "bench.blob"
NEWS = "bench.news"

EVENT_SIZE = 178
"""Bytes of `ping` as msgpack, the way it travels; what the floor passes to and fro."""

Fields = dict[str, Any]

_numbers = count(1)  # no id twice in a process: who sees one again takes it for a retry, and answers from memory


def ping(destination: str | None = "mod:echo", name: str = PING) -> Fields:
    """The fields of an event that was never there before."""
    n = next(_numbers)
    return {
        "event_name": name,
        "source_id": "agent:alice",
        "destination_id": destination,
        "event_id": f"{n:032x}",
        "payload": {"message": "hello, modvisor!", "i": n & 127, "tags": ["a", "b"]},
    }


def blob(data: bytes, destination: str | None = "mod:echo") -> Fields:
    """The same with ``data`` for a payload."""
    return {**ping(destination, BLOB), "payload": {"blob": data}}


def echo(fields: Fields) -> Fields:
    """What is answered to a `ping` or a `blob`."""
    payload = fields["payload"]
    data = {"blob": payload["blob"]} if "blob" in payload else {"pong": payload["i"]}
    return {"success": True, "data": data}


def check(fields: Fields, success: bool, data: Any) -> None:
    """Raise if that is not the answer to the event with these fields."""
    if not success or data != {"pong": fields["payload"]["i"]}:
        raise WrongAnswer(f"the answer to {fields} is {data!r} (success: {success})")


class WrongAnswer(Exception):
    """Somebody is fast because he does something else."""
