"""The ways of events through the mods, recorded while somebody watches.

While nobody does, the gateway has no recorder, and an event costs one look at that. While somebody
does, the newest ways are kept, in a fixed number. If only the picture of the network is watched, and
there are many events, one in so many is recorded, chosen by its id, and counted as so many.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from ...ipc.address import GROUP, MOD, SYSTEM
from ...ipc.errors import Code, ModvisorError
from ...ipc.event import Event, EventResponse
from ..calls import Answer, Journey
from ..fleet import Entry, Mod

# No keys of the network file: they bound what one look at the network costs, and what one event shows.
SAMPLED = 1000  # events per second that are recorded for the picture alone
MOST_CAUSED = 100  # events that are named as caused by one
MOST_STEPS = 100  # mods that are named as asked about one
MOST_EDGES = 2000  # pairs of which the traffic is counted

AGENTS = "agents"

_OUTCOMES = {
    Code.TIMEOUT: "timeout",
    Code.MOD_AWAY: "away",
    Code.MOD_UNLOADED: "away",
    Code.OVERLOADED: "overloaded",
    Code.PENDING: "accepted",
    Code.HANDLER_ERROR: "failed",
    Code.MOD_CRASHED: "failed",
    Code.DEAD_LETTERED: "failed",
    Code.LIMIT_HIT: "failed",
}
ANSWERED, PASSED = "answered", "passed"
_FAILURES = frozenset({"failed", "timeout", "overloaded"})

Edge = tuple[str, str]


class Way:
    """The way of one event.

    Attributes:
        steps: for each mod that was asked: its id, when that began (Unix seconds), milliseconds, the
            outcome, and the code of a failure.
        response: None while the event is under way.
        ended: Unix seconds.
    """

    __slots__ = ("ended", "event", "response", "steps")

    def __init__(self, event: Event) -> None:
        self.event = _head(event)
        self.steps: list[tuple[str, float, float, str, str | None]] = []
        self.response: tuple[bool, str | None, int | None] | None = None
        self.ended = 0.0

    def step(self, mod_id: str, began: float, outcome: str, error: str | None) -> None:
        if len(self.steps) < MOST_STEPS:
            self.steps.append((mod_id, began, round((time.time() - began) * 1000, 3), outcome, error))

    @property
    def by(self) -> str | None:
        """The mod that answered."""
        return next((mod_id for mod_id, *_, outcome, _ in reversed(self.steps) if outcome == ANSWERED), None)

    def brief(self) -> dict[str, Any]:
        """Return the event with its outcome, without anything that it carries."""
        success, error, delivered = self.response or (None, None, None)
        ms = round((self.ended - self.event["at"]) * 1000, 3) if self.response is not None else None
        return {**self.event, "ms": ms, "success": success, "error": error, "by": self.by, "delivered": delivered}

    def told(self) -> list[dict[str, Any]]:
        """Return the steps as people read them."""
        return [
            {"mod": mod_id, "began_at": began, "ms": ms, "outcome": outcome, "error": error}
            for mod_id, began, ms, outcome, error in self.steps
        ]


class Recorded(Protocol):
    """What is recorded; see `Gateway`."""

    taps: list[Callable[[tuple[Event, EventResponse]], None]]
    ways: Ways | None


class Ways:
    """Records the ways of events.

    Args:
        gateway: has this recorder while somebody watches.
        most: returns how many ways are kept.

    Attributes:
        every: one event in so many is recorded.
    """

    def __init__(self, gateway: Recorded, most: Callable[[], int]) -> None:
        self._gateway = gateway
        self._most = most
        self._watchers = 0
        self._of_all = 0  # watchers that want each event recorded
        self.every = 1
        self._ways: OrderedDict[str, Way] = OrderedDict()  # by event id, the oldest first
        self._causes: OrderedDict[str, list[str]] = OrderedDict()  # by event id, what it caused
        self._edges: dict[Edge, list[int]] = {}  # events and failures since they were last taken

    # -- who watches

    @contextmanager
    def watched(self, *, all_events: bool) -> Iterator[None]:
        """Record inside the block.

        Args:
            all_events: record each event, whatever their number.
        """
        self._watchers += 1
        self._of_all += all_events
        if all_events:
            self.every = 1
        if self._gateway.ways is None:
            self._gateway.ways = self
            self._gateway.taps.insert(0, self.finished)  # before others, who see the whole way
        try:
            yield
        finally:
            self._watchers -= 1
            self._of_all -= all_events
            if not self._watchers:
                self._gateway.ways = None
                self._gateway.taps.remove(self.finished)
                self._edges = {}

    def take_edges(self, seconds: float, events: int) -> list[list[Any]]:
        """Return from, to, events per second and failures per second of each pair that had events.

        Args:
            seconds: since they were last taken; 0: not known.
            events: of all kinds in this time. The sampling follows it.
        """
        taken, weight, self._edges = self._edges, self.every, {}
        self.every = 1 if self._of_all or not seconds else max(1, round(events / seconds / SAMPLED))
        if not seconds:
            return []
        part = weight / seconds
        return [[*pair, round(count * part, 2), round(failed * part, 2)] for pair, (count, failed) in taken.items()]

    def way(self, event_id: str) -> dict[str, Any] | None:
        """Return the way of an event; None if it was not recorded, or is forgotten."""
        way = self._ways.get(event_id)
        if way is None:
            return None
        caused = list(self._causes.get(event_id, ()))
        return {"event": way.brief(), "steps": way.told(), "caused": caused, "cause": way.event["cause"]}

    def by(self, event_id: str) -> str | None:
        """Return the mod that answered an event, if that was recorded."""
        way = self._ways.get(event_id)
        return None if way is None else way.by

    # -- what the gateway tells

    async def asked(self, entry: Entry[Mod], journey: Journey) -> Answer:
        """Ask a mod about an event, and record the step."""
        way, began = self._way_of(journey.event), time.time()
        try:
            answer = await entry.target.ask(journey)
        except ModvisorError as problem:
            if way is not None:
                way.step(entry.mod_id, began, _outcome(problem.code), str(problem.code))
            raise
        if way is not None:
            response = answer if isinstance(answer, EventResponse) else None
            way.step(entry.mod_id, began, PASSED if response is None else ANSWERED, _error(response))
        return answer

    def addressed(self, mod: Mod, event: Event, response: EventResponse, *, is_problem: bool) -> None:
        """Record the one step of an event that was for one mod, which was asked when the event came.

        Args:
            is_problem: the mod gave no answer, and the response says why.
        """
        way = self._way_of(event)
        if way is None:
            return
        code = _error(response)
        passed = response.data == {"delivered": 0, "mod": mod.mod_id}
        outcome = _outcome(code) if is_problem else PASSED if passed else ANSWERED
        way.step(mod.mod_id, event.timestamp, outcome, code)

    def finished(self, seen: tuple[Event, EventResponse]) -> None:
        """Record how an event has ended, and count it between its source and the mods."""
        event, response = seen
        way = self._way_of(event)
        if way is None:
            return
        way.ended = time.time()
        way.response = response.success, _error(response), _delivered(response)
        self._count(event, way)

    def _count(self, event: Event, way: Way) -> None:
        source = _node(event)
        for mod_id, _, _, outcome, error in way.steps:
            refused = outcome == ANSWERED and error is not None  # `success: false`: the mod did not do what was asked
            self._add((source, f"{MOD}:{mod_id}"), failed=refused or outcome in _FAILURES)
        delivered = way.response[2] if way.response is not None else None
        if delivered:
            to = event.destination
            self._add((source, f"{AGENTS}:{to.id}" if to is not None and to.role == GROUP else AGENTS), failed=False)

    def _add(self, pair: Edge, *, failed: bool) -> None:
        count = self._edges.get(pair)
        if count is not None:
            count[0] += 1
            count[1] += failed
        elif len(self._edges) < MOST_EDGES:
            self._edges[pair] = [1, int(failed)]

    def _way_of(self, event: Event) -> Way | None:
        """Return the way of an event, begun now if it is new; None if it is not recorded."""
        event_id = event.event_id
        if self.every > 1 and hash(event_id) % self.every:
            return None
        way = self._ways.get(event_id)
        if way is not None and (way.response is None or way.event["source"] == event.source_id):
            return way
        return self._begin(event)

    def _begin(self, event: Event) -> Way:
        way, most = Way(event), self._most()
        if event.cause is not None:
            self._note_cause(event.cause, event.event_id, most)
        self._ways[event.event_id] = way
        while len(self._ways) > most:
            self._ways.popitem(last=False)
        return way

    def _note_cause(self, cause: str, event_id: str, most: int) -> None:
        caused = self._causes.setdefault(cause, [])
        if len(caused) < MOST_CAUSED:
            caused.append(event_id)
        while len(self._causes) > most:
            self._causes.popitem(last=False)


def brief(event: Event, response: EventResponse, by: str | None) -> dict[str, Any]:
    """Return a finished event without anything that it or its answer carries."""
    return {
        **_head(event),
        "ms": round((time.time() - event.timestamp) * 1000, 3),
        "success": response.success,
        "error": _error(response),
        "by": by,
        "delivered": _delivered(response),
    }


def _delivered(response: EventResponse) -> int | None:
    """Return to how many agents the network delivered an event. Beside other keys, `delivered` may be a mod's own."""
    data = response.data
    if isinstance(data, dict) and (data.keys() == {"delivered"} or not response.success):
        delivered = data.get("delivered")
        return delivered if type(delivered) is int else None
    return None


def _head(event: Event) -> dict[str, Any]:
    return {
        "id": event.event_id,
        "name": event.event_name,
        "source": event.source_id,
        "to": event.destination_id,
        "at": event.timestamp,
        "via": event.via,
        "cause": event.cause,
    }


def _node(event: Event) -> str:
    """Return where an event comes from, as the picture of the network has it."""
    if event.via is not None:
        return event.via
    source = event.source
    if source is None or source.role == SYSTEM:
        return SYSTEM
    if source.role == MOD:
        return str(source)
    return AGENTS if event.source_agent_group is None else f"{AGENTS}:{event.source_agent_group}"


def _error(response: EventResponse | None) -> str | None:
    if response is None or response.success:
        return None
    return str(response.error) if response.error is not None else "failed"


def _outcome(code: str | None) -> str:
    return _OUTCOMES.get(Code(code), "failed") if code in _CODES else "failed"


_CODES = frozenset(map(str, Code))
