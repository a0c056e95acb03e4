"""What the diaries say against what the agents were told. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

REASONS = {
    "mod_away", "mod_crashed", "mod_unloaded", "timeout", "overloaded", "not_leader", "not_running", "no_such_mod",
    "storage_full", "unreachable", "closed", "cluster_down", "lease_lost",
}  # fmt: skip
"""With what a plain event may fail while machines die."""


@dataclass
class Sent:
    """An event, and what its sender was told.

    Attributes:
        outcome: ``answered``, ``pending``, or an error's code; None: nothing, its sender lost the connection.
        at: when it was sent, CLOCK_BOOTTIME.
    """

    event_id: str
    mod: str
    durable: bool
    at: float
    outcome: str | None = None
    seconds: float = 0.0


class Away(NamedTuple):
    """A time in which a mod changed its holder.

    Attributes:
        since: the last line of the old holder, CLOCK_BOOTTIME.
        seconds: from then to the first line of the new one.
    """

    since: float
    seconds: float


@dataclass
class Audit:
    """Attributes:
    lost: durable events that were accepted and never handled.
    repeated: handled twice, the second time as a first attempt.
    two_holders: lines that an older holder of a mod wrote after a newer one.
    away: each time that a mod changed its holder.
    unreasoned: failures of plain events, by code, that say no reason.
    """

    handled: int = 0
    answered: int = 0
    pending: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    two_holders: list[str] = field(default_factory=list)
    away: list[Away] = field(default_factory=list)
    unreasoned: dict[str, int] = field(default_factory=dict)


def audit(sent: Iterable[Sent], diary: list[dict[str, Any]], exclusive: frozenset[str]) -> Audit:
    """Compare them.

    Args:
        diary: the lines in the order in which they were written.
        exclusive: the mods of which one process (or one of each part) may handle events at a time.
    """
    found = Audit(handled=len(diary))
    handled: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in diary:
        handled[line["mod"], line["event"]].append(line)
    for event in sent:
        _judge(event, handled.get((event.mod, event.event_id), []), found)
    for (mod, event_id), lines in handled.items():
        found.repeated += [f"{mod} {event_id}" for line in lines[1:] if line["attempt"] == 1]
    _check_holders(diary, exclusive, found)
    return found


def _judge(event: Sent, lines: list[dict[str, Any]], found: Audit) -> None:
    if event.outcome == "answered":
        found.answered += 1
    elif event.outcome == "pending":
        found.pending += 1
    elif event.outcome is not None:
        found.failed[event.outcome] = found.failed.get(event.outcome, 0) + 1
        if event.outcome not in REASONS:
            found.unreasoned[event.outcome] = found.unreasoned.get(event.outcome, 0) + 1
    if event.durable and event.outcome in ("answered", "pending") and not lines:
        found.lost.append(event.event_id)


def _check_holders(diary: list[dict[str, Any]], exclusive: frozenset[str], found: Audit) -> None:
    newest: dict[tuple[str, Any], dict[str, Any]] = {}
    for line in diary:
        if line["mod"] not in exclusive:
            continue
        key = line["mod"], line["part"]
        last = newest.get(key)
        if last is None or line["token"] == last["token"]:
            newest[key] = line
        elif line["token"] < last["token"]:
            found.two_holders.append(f"{key}: {line} after {last}")
        else:
            found.away.append(Away(last["at"], line["at"] - last["at"]))
            newest[key] = line
