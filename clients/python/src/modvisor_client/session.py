"""One agent's conversation with a network, over as many connections as it takes. Pure: no loop, no I/O.

Frames of the network go in (`received`); what happened comes out, as small objects. Frames for the
network are made here, too: the hello of each connection, requests, acks and credit. A request that
has no answer when the connection breaks is sent again over the next one, as it was: with the same
event id, so that the network handles it once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .errors import ModvisorClientError, RemoteProtocolError, Unauthenticated, of_code
from .event import Response
from .frames import Frame, pack
from .inflow import Arrived, Inflow

HELLO = 0
"""The id of the request that a connection begins with."""

USUAL_IN_FLIGHT = 64
"""Requests that may wait for their answers, if the network names no number."""

Waiter = TypeVar("Waiter")


@dataclass
class Identity:
    """Who the agent is, and how it proves that.

    Attributes:
        secret: None until the network gave one.
        joining: the other keys of a registration: metadata, group, password_hash, invite.
    """

    agent_id: str
    secret: str | None = None
    joining: Frame = field(default_factory=dict)


@dataclass(frozen=True)
class Welcomed:
    """The network knows the agent. `is_new`: it has a new secret."""

    group: str | None
    network_id: str | None
    network_name: str | None
    limits: Frame
    is_new: bool


@dataclass(frozen=True)
class Answered(Generic[Waiter]):
    """A request has its answer. One that was refused is answered by an unsuccessful response."""

    waiter: Waiter
    answer: Response


@dataclass(frozen=True)
class Delivered:
    """Events arrived that the client did not have."""

    events: list[Arrived]


@dataclass(frozen=True)
class Lost:
    """The agent's inbox was full, and lost events; of these sources so many."""

    events: int
    sources: dict[str, int]


@dataclass(frozen=True)
class Refused:
    """The network refused the hello or ends the connection, and says why."""

    error: ModvisorClientError


@dataclass(frozen=True)
class Complained:
    """The network refused a message that asks for no answer. The connection goes on."""

    error: ModvisorClientError


Outcome = Welcomed | Answered[Any] | Delivered | Lost | Refused | Complained


class Session(Generic[Waiter]):
    """The state of an agent's conversation.

    Args:
        window: how many events may be pushed and not handled.
    """

    def __init__(self, identity: Identity, inflow: Inflow) -> None:
        self.identity = identity
        self.inflow = inflow
        self._requests: dict[int, tuple[bytes, Waiter]] = {}
        self._unsent: deque[int] = deque()
        self._under_way: set[int] = set()
        self._most_under_way = 1
        self._last_id = HELLO
        self._is_registering = False
        self._outdated: str | None = None
        self.is_welcome = self.was_welcome = False
        self.may_hold_the_id = False
        """Whether a registration had no answer: then the network may hold the id for this agent."""

    # -- to the network

    def hello(self) -> Frame:
        """Begin a connection: with the secret if there is one, else by a registration."""
        self.is_welcome = False
        identity = self.identity
        self._is_registering = identity.secret is None
        common = {"id": HELLO, "agent_id": identity.agent_id, "credit": self.inflow.window}
        if not self._is_registering:
            return {"type": "resume", **common, "secret": identity.secret, "cursor": self.inflow.cursor}
        joining = {**identity.joining, "secret": self._outdated}
        return {"type": "register", **common, **{name: value for name, value in joining.items() if value is not None}}

    def request(self, kind: str, content: Frame, waiter: Waiter) -> tuple[int, bytes]:
        """Return the number and the message of a new request, which waits for its answer from now on.

        It is sent by `messages`, unless it is forgotten before.

        Raises:
            BadUse: it holds a value that cannot travel.
        """
        self._last_id += 1
        message = pack({"type": kind, "id": self._last_id, **content})
        self._requests[self._last_id] = (message, waiter)
        self._unsent.append(self._last_id)
        return self._last_id, message

    def messages(self) -> Iterator[bytes]:
        """Yield what the network is to be told: requests, as many as it reads at once, and reports."""
        if not self.is_welcome:
            return
        while self._unsent and len(self._under_way) < self._most_under_way:
            number = self._unsent.popleft()
            if number in self._requests:
                self._under_way.add(number)
                yield self._requests[number][0]
        yield from map(pack, self.reports())

    def forget(self, number: int) -> None:
        """Wait no longer for the answer to a request."""
        self._requests.pop(number, None)

    def waiters(self) -> list[Waiter]:
        """Return who waits for an answer, and forget them: none will come."""
        found = [waiter for _, waiter in self._requests.values()]
        self._requests.clear()
        return found

    def reports(self) -> Iterator[Frame]:
        """Yield what the network is to be told of handled events."""
        if not self.is_welcome:
            return
        cursor = self.inflow.take_ack()
        if cursor is not None:
            yield {"type": "ack", "cursor": cursor}
        credit = self.inflow.take_credit()
        if credit:
            yield {"type": "credit", "events": credit}

    # -- from the network

    def received(self, frame: Frame) -> Outcome | None:
        """Take in a frame of the network. Return what it means; None: nothing to be done.

        Raises:
            RemoteProtocolError: the frame lacks what its type must have.
        """
        take = self._TAKES.get(frame["type"])
        if take is None:
            return None  # of a newer network
        try:
            return take(self, frame)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise RemoteProtocolError(f"a message {frame['type']!r} of the network is malformed: {error!r}") from error

    def _welcomed(self, frame: Frame) -> Welcomed:
        secret = frame.get("secret")
        if secret is not None:
            self.identity.secret = str(secret)
            self._outdated = None
        self.may_hold_the_id = False
        self.is_welcome = True
        limits = frame.get("limits") or {}
        self._most_under_way = max(1, int(limits.get("in_flight") or USUAL_IN_FLIGHT))
        self._under_way.clear()
        self._unsent = deque(self._requests)  # again, in their order
        self.inflow.connected(_text(frame["cursor"]), is_resumed=bool(frame.get("resumed")))
        return Welcomed(
            frame.get("assigned_group"),
            frame.get("network_id"),
            frame.get("network_name"),
            limits,
            secret is not None,
        )

    def _answered(self, frame: Frame) -> Answered[Waiter] | None:
        waiter = self._answered_by(frame["id"])
        return None if waiter is None else Answered(waiter, Response.from_wire(frame))

    def _answered_by(self, number: int) -> Waiter | None:
        self._under_way.discard(number)
        return self._requests.pop(number, (b"", None))[1]

    def _failed(self, frame: Frame) -> Answered[Waiter] | Refused | Complained | None:
        code, message, data = str(frame["error"]), str(frame.get("message") or frame["error"]), frame.get("data")
        error, number = of_code(code, message, data), frame.get("id")
        if not self.is_welcome:
            return Refused(error)
        if number is None:
            return Complained(error)
        waiter = self._answered_by(number)
        return None if waiter is None else Answered(waiter, Response(False, message, {**(data or {}), "error": code}))

    def _delivered(self, frame: Frame) -> Delivered:
        fresh = (self.inflow.arrived(_text(pushed["cursor"]), pushed["event"]) for pushed in frame["events"])
        return Delivered([arrived for arrived in fresh if arrived is not None])

    def _lost(self, frame: Frame) -> Lost:
        return Lost(int(frame["events"]), dict(frame.get("sources") or {}))

    def _closing(self, frame: Frame) -> Refused:
        return Refused(of_code(str(frame["error"]), str(frame.get("message") or ""), frame.get("data")))

    _TAKES = {  # noqa: RUF012
        "welcome": _welcomed,
        "response": _answered,
        "error": _failed,
        "events": _delivered,
        "dropped": _lost,
        "closing": _closing,
    }

    # -- after the end of a connection

    def disconnected(self, *, was_refused: bool) -> None:
        """Note that the connection ended, in silence or with a refusal."""
        if self._is_registering and not self.is_welcome and not was_refused:
            self.may_hold_the_id = True
        self.was_welcome, self.is_welcome = self.is_welcome, False

    def is_forgotten(self, error: ModvisorClientError) -> bool:
        """Return whether the network does not know the agent any more.

        It was removed or expired, or the network lost its state.
        """
        was_refused = self._is_registering and not self.was_welcome
        return not was_refused and isinstance(error, Unauthenticated)

    def may_register_instead(self, error: ModvisorClientError) -> bool:
        """Note why the hello was refused. Return whether to try again as a new agent."""
        if not self.is_forgotten(error):
            return False
        self._outdated, self.identity.secret = self.identity.secret, None
        self.may_hold_the_id = False
        return True


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value
