"""Turn rows of the journal's tables into records. Damaged rows are logged, and never raise."""

from __future__ import annotations

import logging
from typing import Any

from ...ipc.errors import InvalidEvent, RemoteProtocolError
from ...ipc.event import Event
from ...ipc.messages import unpack
from .records import DeadLetter, DurableEvent, LetterHead

logger = logging.getLogger("modvisor.journal")

_SHOWN_OF_EVENT = ("event_id", "event_name", "source_id", "destination_id")


def durable_event(mod_id: str, row: tuple[Any, ...], damaged: list[int]) -> DurableEvent | None:
    """Return the event of a row.

    One that cannot be read back is logged and added to ``damaged``.
    """
    seq, event, attempt, accepted_at, owner = row
    try:
        return DurableEvent(seq, mod_id, Event.from_dict(unpack(event)), attempt, accepted_at, owner or None)
    except (RemoteProtocolError, InvalidEvent) as error:
        logger.error("event %d of mod %s cannot be read back (%s); it is lost", seq, mod_id, error)
        damaged.append(seq)
        return None


def dead_letter(row: tuple[Any, ...]) -> DeadLetter | None:
    """Return the letter of a row, or None with a warning if it cannot be read back."""
    letter_id, mod_id, event, attempts, code, reason, report, at = row
    try:
        kept = None if report is None else mapping(report)
        return DeadLetter(letter_id, mod_id, mapping(event), attempts, code, reason, kept, at)
    except RemoteProtocolError as error:
        logger.warning("dead letter %d of mod %s cannot be read back (%s)", letter_id, mod_id, error)
        return None


def letter_head(row: tuple[Any, ...]) -> LetterHead | None:
    """Return the letter of a row without its large parts."""
    letter = dead_letter(row)
    if letter is None or letter.letter_id is None:
        return None
    event = {key: letter.event.get(key) for key in _SHOWN_OF_EVENT}
    size = len(row[2]) + len(row[6] or b"")
    return LetterHead(
        letter.letter_id, letter.mod_id, event, letter.attempts, letter.code, letter.reason, size, letter.at
    )


def mapping(blob: bytes) -> dict[str, Any]:
    """Unpack a mapping. Raises `RemoteProtocolError` for anything else."""
    value = unpack(blob)
    if type(value) is not dict:
        raise RemoteProtocolError(f"expected a mapping, got {type(value).__name__}")
    return value
