"""Turn rows of the journal's tables into records, and say which rows are damaged.

A disk may change any bit, and SQLite notices few of them. So each value is checked before the
network uses it: its type, its range, its grammar. A decoder raises `DamagedRow` for a bad row, and
never anything else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...ipc.address import check_agent_id, is_mod_path, parse_address
from ...ipc.errors import ModvisorError
from ...ipc.event import Event, EventResponse
from ...ipc.messages import unpack
from ..agents import Agent, Invite, OperatorToken, Scope
from .deaths import Record
from .records import Checkpoint, DeadLetter, DurableEvent, KeptMod, LetterHead, Quarantine

_SHOWN_OF_EVENT = ("event_id", "event_name", "source_id", "destination_id")
_LATEST = 1e11  # seconds since 1970; later times (from the year 5138) cannot be shown to people
_LARGEST_NUMBER = 1 << 53  # AUTOINCREMENT refuses new rows once a row has the largest number there is
_MOST_ATTEMPTS = 1_000_000

Row = tuple[Any, ...]
Check = Callable[[Any], bool]
Decoder = Callable[[Row], Any]


class DamagedRow(ValueError):
    """A row that does not hold what modvisor wrote."""


def text_of(value: bytes) -> str | bytes:
    """Return text from the file, or its bytes if they are no UTF-8: SQLite's `text_factory`."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def agent(row: Row) -> Agent:
    _check(row, agent_id=_text, metadata=_bytes, agent_group=_text_or_none, secret_hash=_bytes, registered_at=_time,
           guest=_flag, address=_text_or_none, returned=_flag)  # fmt: skip
    agent_id, metadata, group, secret_hash, registered_at, guest, address, returned = row
    _raised_by(check_agent_id, agent_id)
    return Agent(
        agent_id, mapping(metadata), group, secret_hash, float(registered_at), 0.0, time.time(),
        is_guest=bool(guest), address=address, has_returned=bool(returned),
    )  # fmt: skip


def member(row: Row) -> tuple[str, str]:
    """Return the channel and the agent's id."""
    _check(row, channel=_text, agent_id=_text)
    channel, agent_id = row
    _raised_by(parse_address, f"channel:{channel}")
    _raised_by(check_agent_id, agent_id)
    return channel, agent_id


def private_channel(row: Row) -> tuple[str, str | None]:
    """Return the channel, and the id of the agent that made it."""
    _check(row, channel=_text, created_by=_text_or_none)
    channel, created_by = row
    _raised_by(parse_address, f"channel:{channel}")
    return channel, created_by


def invite(row: Row) -> Invite:
    _check(row, invite_id=_text, secret_hash=_bytes, agent_group=_text_or_none, agents=_text_or_none, uses=_attempts,
           expires_at=_time, created_at=_time, created_by=_text)  # fmt: skip
    invite_id, secret_hash, group, agents, uses, expires_at, created_at, created_by = row
    return Invite(invite_id, secret_hash, group, agents, uses, float(expires_at), float(created_at), created_by)


def kept_mod(row: Row) -> KeptMod:
    _check(row, mod_id=_mod_id, path=is_mod_path, spec=_bytes, position=_number, loaded_at=_time)
    mod_id, path, spec, position, loaded_at = row
    return KeptMod(mod_id, path, mapping(spec), position, float(loaded_at))


def quarantine(row: Row) -> Quarantine:
    _check(row, mod_id=_mod_id, path=_text, reason=_text, at=_time, fingerprint=_text)
    return Quarantine(*row)


def family(row: Row) -> tuple[str, dict[str, Any]]:
    """Return the family's name and its promotions."""
    _check(row, name=_mod_id, record=_bytes)
    name, record = row
    return name, mapping(record)


def checkpoint(row: Row) -> Checkpoint:
    _check(row, mod_id=_text, version=_text, state=_bytes, at=_time)
    mod_id, version, state, at = row
    return Checkpoint(mod_id, version, _raised_by(unpack, state), float(at), len(state))


def durable_event(row: Row) -> DurableEvent:
    _check(row, seq=_number, mod_id=_mod_id, event=_bytes, accepted_at=_time, source_id=_text, attempt=_attempts,
           charges=_attempts, unproven=_attempts, turn=_number)  # fmt: skip
    seq, mod_id, event, accepted_at, owner, *record = row
    found, known = _raised_by(Event.from_dict, mapping(event)), Record(*record)
    return DurableEvent(seq, mod_id, found, known.attempt, float(accepted_at), owner or None, known)


def answer(row: Row) -> bytes:
    """Return the answer of a durable mod, packed as it was kept."""
    _check(row, answer=_bytes)
    match _raised_by(unpack, row[0]):
        case ["response", dict(data)]:
            _raised_by(EventResponse.from_dict, data)
        case ["event", dict(data)]:
            _raised_by(Event.from_dict, data)
        case ["", None]:
            pass
        case other:
            raise DamagedRow(f"expected an answer, got {type(other).__name__}")
    return row[0]


def dead_letter(row: Row) -> DeadLetter:
    _check(row, letter_id=_number, mod_id=_mod_id, event=_bytes, attempts=_attempts, code=_text, reason=_text,
           report=_bytes_or_none, at=_time)  # fmt: skip
    letter_id, mod_id, event, attempts, code, reason, report, at = row
    kept = None if report is None else mapping(report)
    return DeadLetter(letter_id, mod_id, mapping(event), attempts, code, reason, kept, float(at))


def crash(row: Row) -> tuple[str, dict[str, Any]]:
    """Return whose report it is, and the report."""
    _check(row, mod_id=_mod_id, at=_time, report=_bytes)
    mod_id, _, report = row
    return mod_id, mapping(report)


def last_stats(row: Row) -> tuple[float, dict[str, Any]]:
    _check(row, at=_time, stats=_bytes)
    at, stats = row
    return float(at), mapping(stats)


def token(row: Row) -> OperatorToken:
    _check(row, name=_text, secret_hash=_bytes, scope=_text, created_at=_time, created_by=_text,
           expires_at=_time_or_none, payloads=_number)  # fmt: skip
    name, secret_hash, word, created_at, created_by, expires_at, payloads = row
    scope = _raised_by(Scope.of, word)
    return OperatorToken(name, secret_hash, scope, created_at, created_by, expires_at, bool(payloads))


def audit_head(row: Row) -> tuple[int, bytes]:
    """Return number and seal of the newest record of the audit."""
    _check(row, number=_number, seal=_bytes)
    number, seal = row
    return number, seal


def letter_head(row: Row) -> LetterHead:
    """Return the letter of a row without its large parts."""
    letter = dead_letter(row)
    assert letter.letter_id is not None
    event = {key: letter.event.get(key) for key in _SHOWN_OF_EVENT}
    size = len(row[2]) + len(row[6] or b"")
    return LetterHead(
        letter.letter_id, letter.mod_id, event, letter.attempts, letter.code, letter.reason, size, letter.at
    )


@dataclass(frozen=True, slots=True)
class Table:
    """How the rows of one table are read, and what they are called for people.

    Attributes:
        columns: in the order in which ``decode`` takes them.
        key: the column that names a row.
    """

    kind: str
    kinds: str
    key: str
    columns: str
    decode: Decoder


TABLES = {
    "agent": Table(
        "agent", "agents", "agent_id",
        "agent_id, metadata, agent_group, secret_hash, registered_at, guest, address, returned", agent,
    ),
    "member": Table("channel member", "channel members", "agent_id", "channel, agent_id", member),
    "private_channel": Table(
        "private channel", "private channels", "channel", "channel, created_by", private_channel
    ),
    "invite": Table(
        "invite", "invites", "invite_id",
        "invite_id, secret_hash, agent_group, agents, uses, expires_at, created_at, created_by", invite,
    ),
    "mod": Table("loaded mod", "loaded mods", "mod_id", "mod_id, path, spec, position, loaded_at", kept_mod),
    "quarantine": Table(
        "quarantine", "quarantines", "mod_id", "mod_id, path, reason, at, fingerprint", quarantine
    ),
    "family": Table("family's promotions", "families' promotions", "name", "name, record", family),
    "checkpoint": Table("checkpoint", "checkpoints", "mod_id", "mod_id, version, state, at", checkpoint),
    "durable": Table(
        "durable event", "durable events", "event_id",
        "seq, mod_id, event, accepted_at, source_id, attempt, charges, unproven, turn", durable_event,
    ),
    "answer": Table("remembered answer", "remembered answers", "event_id", "answer", answer),
    "dead_letter": Table(
        "dead letter", "dead letters", "letter_id",
        "letter_id, mod_id, event, attempts, code, reason, report, at", dead_letter,
    ),
    "crash": Table("crash report", "crash reports", "number", "mod_id, at, report", crash),
    "token": Table(
        "operator's token", "operators' tokens", "name",
        "name, secret_hash, scope, created_at, created_by, expires_at, payloads", token,
    ),
    "audit_head": Table("number of the audit", "numbers of the audit", "one", "number, seal", audit_head),
    "last_stats": Table("record of the last figures", "records of the last figures", "one", "at, stats", last_stats),
}  # fmt: skip
"""The tables whose rows are checked. A table that is not named here is copied as it is."""


def mapping(blob: bytes) -> dict[str, Any]:
    """Unpack a mapping with text as keys. Raises `DamagedRow` for anything else."""
    value = _raised_by(unpack, blob)
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise DamagedRow(f"expected a mapping with text as keys, got {type(value).__name__}")
    return value


def _raised_by(read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except ModvisorError as error:
        raise DamagedRow(str(error)) from None


def _check(row: Row, **checks: Check) -> None:
    for value, (column, is_sound) in zip(row, checks.items(), strict=True):
        if not is_sound(value):
            raise DamagedRow(f"{column} holds {repr(value)[:60]}")


def _text(value: Any) -> bool:
    return type(value) is str


def _text_or_none(value: Any) -> bool:
    return value is None or type(value) is str


def _bytes(value: Any) -> bool:
    return type(value) is bytes


def _bytes_or_none(value: Any) -> bool:
    return value is None or type(value) is bytes


def _number(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST_NUMBER


def _flag(value: Any) -> bool:
    return type(value) is int and value in (0, 1)


def _attempts(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _MOST_ATTEMPTS


def _time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _LATEST


def _time_or_none(value: Any) -> bool:
    return value is None or _time(value)


def _mod_id(value: Any) -> bool:
    """Return whether the value can name a mod, or one of its workers (``wiki#1``)."""
    if type(value) is not str:
        return False
    name, _, index = value.partition("#")
    try:
        return parse_address(f"mod:{name}") is not None and (not index or index.isdecimal())
    except ModvisorError:
        return False
