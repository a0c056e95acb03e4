"""The records that the journal takes and gives, plain and frozen, and its two errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ...ipc.errors import Code, ModvisorError
from ...ipc.event import Event
from ..agents import Agent, Invite, OperatorToken
from .deaths import Record


class JournalError(ModvisorError):
    """The journal failed to do what was asked, and kept nothing of it."""

    code = Code.INTERNAL


class AnsweredBefore(Exception):
    """The event was answered before. ``answer``: as it was given to `Journal.answered`."""

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer


class StorageFull(JournalError):
    """There is no room.

    The disk is full or cannot be written, a limit of the config is reached, or too many changes
    wait for the disk.
    """

    code = Code.STORAGE_FULL


@dataclass(frozen=True, slots=True)
class KeptMod:
    """A mod that was loaded while the network ran.

    Attributes:
        spec: how it was loaded, as plain data (msgpack types).
        position: its place in the load order. Mods with equal positions are in the order of
            ``loaded_at``.
        loaded_at: Unix seconds.
    """

    mod_id: str
    path: str
    spec: dict[str, Any]
    position: int
    loaded_at: float


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Why a mod stays down.

    Attributes:
        at: since when, in Unix seconds.
        fingerprint: of the sources that failed.
    """

    mod_id: str
    path: str
    reason: str
    at: float
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a mod.

    Attributes:
        version: the version of the mod that gave the state.
        at: when, in Unix seconds.
        size: bytes of msgpack.
    """

    mod_id: str
    version: str
    state: Any
    at: float
    size: int


@dataclass(frozen=True, slots=True)
class DurableEvent:
    """An accepted event that a mod has not answered.

    Attributes:
        attempt: the number of the next attempt.
        accepted_at: Unix seconds.
        owner: who sent the event, see `Agent.owner`.
        record: its attempts, and what counts against it.
    """

    seq: int
    mod_id: str
    event: Event
    attempt: int
    accepted_at: float
    owner: str | None = None
    record: Record = field(default_factory=Record)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that modvisor gave up delivering.

    Attributes:
        letter_id: given by the journal; None before that.
        event: `Event.to_dict()`, without the sender's secret.
        attempts: how often it was delivered.
        code: one of `modvisor.ipc.errors.Code`.
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
    """A dead letter without its large parts, the payload and the crash report.

    Attributes:
        event: the event's event_id, event_name, source_id and destination_id.
        size: bytes of the whole event and the report, packed.
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
    """What the last run of the network left in the journal.

    Attributes:
        channels: the member ids of each channel, in joining order.
        mods: in load order.
        quarantines: by mod id.
        families: the promotions of each family, by name, as plain data.
        private: the private channels, each with the id of the agent that made it.
        invites: those that were neither used up nor revoked.
        crashes: crash reports by mod id, as plain data, the oldest first.
        audit_head: number and seal of the newest record of the audit; None: there was none.
        clean: the last run closed the journal, or there was no last run.
    """

    agents: list[Agent] = field(default_factory=list)
    channels: dict[str, list[str]] = field(default_factory=dict)
    mods: list[KeptMod] = field(default_factory=list)
    quarantines: dict[str, Quarantine] = field(default_factory=dict)
    clean: bool = True
    families: dict[str, dict[str, Any]] = field(default_factory=dict)
    crashes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    private: dict[str, str | None] = field(default_factory=dict)
    invites: list[Invite] = field(default_factory=list)
    tokens: list[OperatorToken] = field(default_factory=list)
    audit_head: tuple[int, bytes] | None = None
