"""What the end of the last run means for the durable events that were being handled then. Pure.

The next handler sees that the event is repeated (`attempt`), whatever the end was. Against an event
counts only the death of the supervisor itself, in the same boot: no clean stop, no power failure.

- *Caught*: its handler called for the death (os.kill, say). That is a charge, and the event is tried
  again alone, after all others. If one was caught, the others are innocent.
- *Running*: a step of its handler ran at the death. An operator's ``kill -9`` looks the same, so the
  event is only tried again after the others, alone in the end. If it runs alone at several deaths in
  a row (`UNPROVEN`), it is given up.
- Neither: it waited for something. That never counts, however often it happens. Repeated a second
  time, it comes after the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

UNPROVEN = 3
"""Deaths with an event running alone after which it is given up, though nothing proves its guilt. A
smaller ``max_attempts`` does not make it fewer: an operator kills a network more than once."""

IN_TURN, LAST, LAST_ALONE = 0, 1, 2
"""When an event is tried again: as if new, after all others, or after all others and alone."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A durable event that was sent to a worker.

    Attributes:
        attempt: the number of the attempt that was begun.
    """

    seq: int
    attempt: int
    is_caught: bool = False
    is_running: bool = False


@dataclass(frozen=True, slots=True)
class BegunTogether:
    """The durable events that one worker had in hand, and the boot in which it ran."""

    boot: str
    events: tuple[Begun, ...]


class Record(NamedTuple):
    """What the journal knows of an event's attempts; `turn` is one of `IN_TURN`, `LAST`, …"""

    attempt: int = 1
    charges: int = 0
    unproven: int = 0
    turn: int = IN_TURN


def after_death(record: Record, event: Begun, *, is_alone: bool, runs_alone: bool, counts: bool) -> Record:
    """Return the record of an event after the end of a run.

    Args:
        is_alone: it was the only event in hand.
        runs_alone: no other event was running.
        counts: the end may count against events at all.
    """
    _, charges, unproven, turn = record
    if counts and event.is_caught:
        charges, turn = charges + 1, LAST_ALONE
    elif counts and event.is_running:
        unproven += is_alone
        turn = LAST_ALONE if runs_alone or turn != IN_TURN else LAST
    elif counts and event.attempt > 1:
        turn = max(turn, LAST)
    return Record(event.attempt + 1, charges, unproven, turn)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:48]
    except OSError:  # macOS
        return ""


BOOT_ID = _boot_id()
"""What names the boot of this machine; empty if the system does not say."""
