"""What a record of the audit says. Pure."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

from .actors import Actor

# No keys of the network file: they bound one line, whose text others choose.
LONGEST_TEXT = 300  # characters of one value
LONGEST_DETAIL = 4000  # bytes

Record = dict[str, Any]

REFUSED, REMOVED, GAP = "refused", "audit.removed", "audit.gap"
"""Names of records: refused requests, files that made room for new ones, lines that a start found missing."""


def record(by: Actor, what: str, on: str | None, outcome: str, detail: Mapping[str, Any] | None = None) -> Record:
    """Return a record of what happened now.

    Args:
        on: what it was done to: a mod, an agent, a token.
        outcome: `asked`, `ok`, `cancelled`, or the code of the failure.
    """
    return {
        "at": told_time(time.time()),
        "who": _short(by.who),
        "from": None if by.address is None else _short(by.address),
        "what": what,
        "on": None if on is None else _short(on),
        "outcome": outcome,
        "detail": _bounded(detail or {}),
    }


def refused(sums: Iterable[tuple[str, str, int, str]], most: int) -> list[Record]:
    """Return the records of the requests that were refused within a minute.

    Args:
        sums: kind, address or name, number, and the text of the first one.
        most: bytes that they may take. The largest sums come first, and the rest is one record.
    """
    made: list[Record] = []
    ordered = sorted(sums, key=lambda each: -each[2])
    for place, (kind, who, count, first) in enumerate(ordered):
        one = record(
            Actor(who, who if _is_address(who) else None), REFUSED, None, kind, {"count": count, "first": first}
        )
        most -= len(json.dumps(one)) + 200  # with number and MAC
        if most < 0:
            rest = ordered[place:]
            detail = {"count": sum(each[2] for each in rest), "sums": len(rest)}
            made.append(record(Actor("others"), REFUSED, None, "various", detail))
            break
        made.append(one)
    return made


def told_time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_address(who: str) -> bool:
    try:
        return ip_network(who) is not None
    except ValueError:
        return False


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"


def _bounded(detail: Mapping[str, Any]) -> Mapping[str, Any]:
    small = {key: _short(value) if isinstance(value, str) else value for key, value in detail.items()}
    text = json.dumps(small, default=str)
    return json.loads(text) if len(text) <= LONGEST_DETAIL else {"cut": text[:LONGEST_TEXT]}
