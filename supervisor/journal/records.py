"""What the journal takes and gives: plain frozen records, and its two errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import Event
from ..agents import Agent


class JournalError(ModvisorError):
    """The journal could not do what was asked; nothing of it was kept."""

    code = Code.INTERNAL


class StorageFull(JournalError):
    """No room: the disk is full or cannot be written, a limit of the config is reached, or too much waits for the disk."""

    code = Code.STORAGE_FULL


@dataclass(frozen=True, slots=True)
class KeptMod:
    """A mod that was loaded while the network ran.

    Attributes:
        spec: how it was loaded, as plain data (msgpack types).
        position: its place in the load order; equal ones stand in the order of ``loaded_at``.
        loaded_at: Unix seconds.
    """

    mod_id: str
    path: str
    spec: dict[str, Any]
    position: int
    loaded_at: float


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why a mod stays down, since when (Unix seconds), and the fingerprint of the sources that failed."""

    mod_id: str
    path: str
    reason: str
    at: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A mod's state as of ``at`` (Unix seconds), written by ``version`` of it; ``size`` bytes of msgpack."""

    mod_id: str
    version: str
    state: Any
    at: float
    size: int


@dataclass(frozen=True, slots=True)
class DurableEvent:
    """An accepted event that a mod has not answered. ``attempt`` is the next one's number, ``accepted_at`` Unix seconds."""

    seq: int
    mod_id: str
    event: Event
    attempt: int
    accepted_at: float


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that was given up.

    Attributes:
        letter_id: given by the journal; None before.
        event: `Event.to_dict()`, without the sender's secret.
        attempts: how many deliveries it took.
        code: of `modvisor.ipc.errors.Code`.
        reason: one sentence for a person.
        report: the crash report, plain data, if there is one.
        at: Unix seconds.
    """

    letter_id: int | None
    mod_id: str
    event: dict[str, Any]
    attempts: int
    code: str
    reason: str
    report: dict[str, Any] | None
    at: float


@dataclass(frozen=True, slots=True)
class LetterHead:
    """A dead letter without what may be large, the event's payload and the crash report.

    Attributes:
        event: of it, event_id, event_name, source_id and destination_id.
        size: bytes of the whole event and report, packed.
    """

    letter_id: int
    mod_id: str
    event: dict[str, Any]
    attempts: int
    code: str
    reason: str
    size: int
    at: float


@dataclass(frozen=True, slots=True)
class LastRun:
    """What the former owner left.

    Attributes:
        channels: name to the ids of its members, in joining order.
        mods: in load order.
        quarantines: by mod id.
        families: what is kept of their promotions, by name, as plain data.
        clean: the former owner closed the journal, or there was none.
    """

    agents: list[Agent] = field(default_factory=list)
    channels: dict[str, list[str]] = field(default_factory=dict)
    mods: list[KeptMod] = field(default_factory=list)
    quarantines: dict[str, Quarantine] = field(default_factory=dict)
    clean: bool = True
    families: dict[str, dict[str, Any]] = field(default_factory=dict)
