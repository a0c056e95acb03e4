"""One event on its way: the event, its deadline, and the event that caused it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...ipc.address import SYSTEM
from ...ipc.errors import Unserializable
from ...ipc.event import Event
from ...ipc.messages import pack, unpack
from ..config import Split

MAX_HOPS = 32
"""An event caused by an event caused by … : past this many it is a loop, not a chain of work."""

_KEPT = 64 * 1024  # bytes of an event that are kept as they are sent


class Journey:
    """An accepted event and what the core knows of it.

    Attributes:
        deadline: loop time after which nobody waits for the answer; infinite for what is kept until it is answered.
        allowed: seconds a handler has from when the event is sent to it; None: until the deadline.
        parent: the journey whose handler sent this event, if any.
        attempt: which one it is at the mod that is being asked, from 1.
        seq: its number in the journal, if the mod that is being asked has accepted it for good.
        versions: the version of each family on its way, by family; None: it has met none.
        answer: the frame of the last answer that it got from a mod, None if that was none.

    Args:
        is_shared: payload and metadata of the event are still its sender's, who may change them when the task of the network
            waits for something: whoever waits, or keeps the event, calls `own` before; who has sent it, after.
    """

    __slots__ = (
        "_is_shared",
        "_packed",
        "_size",
        "allowed",
        "answer",
        "attempt",
        "deadline",
        "event",
        "parent",
        "seq",
        "versions",
    )

    def __init__(
        self,
        event: Event,
        deadline: float,
        parent: Journey | None = None,
        allowed: float | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        self.event = event
        self.deadline = deadline
        self.allowed = allowed
        self.parent = parent
        self.attempt = 1
        self.seq: int | None = None
        self.versions: dict[str, str | None] | None = None
        self._size: int | None = None
        self._packed: bytes | None = None
        self._is_shared = is_shared
        self.answer: bytes | None = None

    def own(self) -> None:
        """Make the event's content its own, as it was when it came."""
        if not self._is_shared:
            return
        self._is_shared = False
        event = self.event
        if self._packed is None:
            event.unshare()
        else:  # what was sent, whatever has become of it since
            sent = unpack(self._packed)
            event.payload, event.metadata = sent["payload"], sent.get("metadata", {})
            event.allowed_agents = sent.get("allowed_agents")

    @property
    def size(self) -> int:
        """About how many bytes the event takes while it waits. Found out when it has to: most events never wait."""
        if self._size is None:
            try:
                self._size = len(self.packed)
            except Unserializable:  # it will be refused when it is sent
                self._size = 0
        return self._size

    @property
    def packed(self) -> bytes:
        """The event as it goes to the mods: made once for all of them, unless it is large. Raises `Unserializable`."""
        if self.attempt > 1:
            return pack(self.to_dict())
        packed = self._packed
        if packed is None:
            packed = pack(self.event.to_dict())
            if len(packed) <= _KEPT:
                self._packed = packed
            else:
                self.own()
        return packed

    def to_dict(self) -> dict[str, Any]:
        """The event as it goes to the mods, as plain data."""
        data = self.event.to_dict()
        if self.attempt > 1:
            data["attempt"] = self.attempt
        return data

    def with_event(self, event: Event) -> Journey:
        """The same journey, gone on by a changed event."""
        journey = Journey(event, self.deadline, self.parent, self.allowed)
        journey.versions = self.versions
        return journey

    @property
    def source(self) -> str:
        """Who sent it; whatever has no source is the network's own."""
        return str(self.event.source or f"{SYSTEM}:{SYSTEM}")

    def version_of(self, split: Split) -> str | None:
        """The version of a family that it goes to; None: none. Settled when the first of the family is met: a switch meanwhile
        sends it neither to a second version nor past both."""
        if self.versions is None:
            self.versions = {}
        if split.family not in self.versions:
            self.versions[split.family] = split.pick(self.source, self.event.source_agent_group)
        return self.versions[split.family]

    def settle(self, family: str, mod_id: str) -> None:
        """It has been given to version ``mod_id`` of a family."""
        self.versions = {**(self.versions or {}), family: mod_id}

    def descends_from(self, others: set[Journey]) -> bool:
        """Whether one of ``others`` caused this event, directly or through others."""
        ancestor = self.parent
        while ancestor is not None:
            if ancestor in others:
                return True
            ancestor = ancestor.parent
        return False


def events_of(journeys: Iterable[Journey]) -> list[dict[str, Any]]:
    """Events as a report names them: never their payload, which may hold anything."""
    return [
        {
            "event_id": journey.event.event_id,
            "event_name": journey.event.event_name,
            "source_id": journey.event.source_id,
            "attempt": journey.attempt,
        }
        for journey in journeys
    ]
