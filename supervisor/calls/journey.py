"""One event on its way: the event, its deadline, and the event that caused it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from ...ipc.address import SYSTEM
from ...ipc.errors import Unserializable
from ...ipc.event import Event
from ...ipc.messages import pack, unpack
from ...ipc.usual import usual_event
from ..config import Split
from .deaths import Deaths

if TYPE_CHECKING:
    from ..tracing import Begun

MAX_HOPS = 32
"""Events that may cause one another in a chain. A longer chain is a loop, not work."""

_KEPT = 64 * 1024  # bytes up to which a packed event is kept for the next mod


class Journey(msgspec.Struct, eq=False, gc=False):
    """An accepted event and what the core knows of it.

    Nothing that it holds refers to it, so the garbage collector need not know it.

    Attributes:
        deadline: loop time at which the sender stops waiting. Infinite for an event that a durable
            mod accepted.
        allowed: seconds that a handler has once the event is sent to it. None: until the deadline.
        parent: the journey whose handler sent this event, if any.
        attempt: the number of the attempt at the mod that is being asked, from 1.
        seq: the event's number in the journal, if the mod that is being asked is durable and
            accepted it.
        versions: the mod id that the event goes to in each family that it has met. None: it has met
            no family.
        answer: the frame of the pipe that the last answer came in. None: the last answer was no
            response.
        deaths: what is known of it from processes that died with it. None: none did.
        owner: who sent the event: a text that tells the present owner of an agent's id from former
            and later ones. None: not known yet.
        trace: the span that the event is in now; None: it is not traced.
        is_shared: the event's payload and metadata still belong to its sender, who may change them
            while the network waits for something. Code that is about to wait, or to keep the event,
            calls `own` first; code that has just sent it, afterwards.
    """

    event: Event
    deadline: float
    parent: Journey | None = None
    allowed: float | None = None
    is_shared: bool = False
    attempt: int = 1
    seq: int | None = None
    versions: dict[str, str | None] | None = None
    answer: bytes | None = None
    deaths: Deaths | None = None
    owner: str | None = None
    trace: Begun | None = None
    _size: int | None = None
    _packed: bytes | None = None

    def own(self) -> None:
        """Copy the event's content, as it was when it came, away from its sender."""
        if not self.is_shared:
            return
        self.is_shared = False
        event = self.event
        if self._packed is None:
            event.unshare()
        else:  # the content as it was sent: the sender may have changed it since
            sent = unpack(self._packed)
            event.payload, event.metadata = sent["payload"], sent.get("metadata", {})
            event.allowed_agents = sent.get("allowed_agents")

    def mark(self, key: str, value: str) -> None:
        """Set a value of the event's metadata, which all see that get the event from now on."""
        self.own()
        self.event.metadata = {**self.event.metadata, key: value}
        self._packed = None

    @property
    def size(self) -> int:
        """About how many bytes the event takes while it waits.

        Measured on demand: most events never wait.
        """
        if self._size is None:
            try:
                self._size = len(self.packed)
            except Unserializable:  # the event is refused later, when it is to be sent
                self._size = 0
        return self._size

    @property
    def packed(self) -> bytes:
        """The event as it is sent to mods, packed once for all mods unless it is large.

        Raises `Unserializable`.
        """
        packed = self.pack_the_usual_way()
        return self.pack_the_long_way() if packed is None else packed

    def pack_the_usual_way(self) -> bytes | None:
        """Return the event as `packed`, if it is asked about for the first time and is packed already, or usual."""
        if self.attempt > 1:
            return None
        packed = self._packed
        if packed is None and (packed := usual_event(self.event)) is not None:
            if len(packed) > _KEPT:
                self.own()
            else:
                self._packed = packed
        return packed

    def pack_the_long_way(self) -> bytes:
        """Return the event as `packed`, if it is not of the usual form. Raises `Unserializable`."""
        packed = pack(self.to_dict())
        if self.attempt == 1:
            if len(packed) > _KEPT:
                self.own()
            else:
                self._packed = packed
        return packed

    def to_dict(self) -> dict[str, Any]:
        """Return the event as it is sent to mods, as plain data."""
        data = self.event.to_dict()
        if self.attempt > 1:
            data["attempt"] = self.attempt
        return data

    def with_event(self, event: Event) -> Journey:
        """Return a journey that continues this one with a changed event."""
        journey = Journey(event, self.deadline, self.parent, self.allowed)
        journey.versions, journey.owner, journey.trace = self.versions, self.owner, self.trace
        return journey

    @property
    def key(self) -> tuple[str | None, str]:
        """What identifies the event: retries have the same key, events of another sender never."""
        return self.owner or self.event.source_id, self.event.event_id

    @property
    def first(self) -> Journey:
        """The first event of the chain that caused this one, as far as it is known."""
        journey = self
        while journey.parent is not None:
            journey = journey.parent
        return journey

    @property
    def source(self) -> str:
        """The sender. An event without a source comes from the network itself."""
        return str(self.event.source or f"{SYSTEM}:{SYSTEM}")

    def version_of(self, split: Split) -> str | None:
        """Return the version of a family (its mod id) that the event goes to, or None.

        It is picked once, when the event meets the family. A promotion meanwhile sends the event
        neither to a second version nor past both.
        """
        if self.versions is None:
            self.versions = {}
        if split.family not in self.versions:
            self.versions[split.family] = split.pick(self.source, self.event.source_agent_group)
        return self.versions[split.family]

    def settle(self, family: str, mod_id: str) -> None:
        """Note that the event went to version ``mod_id`` of a family."""
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
    """Return the events as a crash report names them, without payloads: they may be secret."""
    return [
        {
            "event_id": journey.event.event_id,
            "event_name": journey.event.event_name,
            "source_id": journey.event.source_id,
            "attempt": journey.attempt,
        }
        for journey in journeys
    ]
