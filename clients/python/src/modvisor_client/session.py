"""One agent's conversation with a network, over as many connections as it takes. Pure: no loop, no I/O.

Frames of the network go in (`received`); what happened comes out, as small objects. Frames for the
network are made here, too: the hello of each connection, requests, acks and credit. A request that
has no answer when the connection breaks is sent again over the next one, as it was: with the same
event id, so that the network handles it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .errors import ModvisorClientError, RemoteProtocolError, Unauthenticated, of_code
from .event import Response
from .frames import Frame, pack
from .inflow import Arrived, Inflow

HELLO = 0
"""The id of the request that a connection begins with."""

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
    """A request has its answer: a response, or the error that refused it."""

    waiter: Waiter
    answer: Response | ModvisorClientError


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

        Raises:
            BadUse: it holds a value that cannot travel.
        """
        self._last_id += 1
        message = pack({"type": kind, "id": self._last_id, **content})
        self._requests[self._last_id] = (message, waiter)
        return self._last_id, message

    def forget(self, number: int) -> None:
        """Wait no longer for the answer to a request."""
        self._requests.pop(number, None)

    def unanswered(self) -> list[bytes]:
        """Return the requests to send again over a new connection, in their order."""
        return [message for message, _ in self._requests.values()]

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
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RemoteProtocolError(f"a message {frame['type']!r} of the network is malformed: {error!r}") from error

    def _welcomed(self, frame: Frame) -> Welcomed:
        secret = frame.get("secret")
        if secret is not None:
            self.identity.secret = str(secret)
            self._outdated = None
        self.may_hold_the_id = False
        self.is_welcome = True
        self.inflow.connected(frame["cursor"], is_resumed=bool(frame.get("resumed")))
        return Welcomed(
            frame.get("assigned_group"),
            frame.get("network_id"),
            frame.get("network_name"),
            frame.get("limits") or {},
            secret is not None,
        )

    def _answered(self, frame: Frame) -> Answered[Waiter] | None:
        _, waiter = self._requests.pop(frame["id"], (None, None))
        return None if waiter is None else Answered(waiter, Response.from_wire(frame))

    def _failed(self, frame: Frame) -> Answered[Waiter] | Refused | Complained | None:
        error = of_code(str(frame["error"]), str(frame.get("message") or frame["error"]), frame.get("data"))
        number = frame.get("id")
        if not self.is_welcome:
            return Refused(error)
        if number is None:
            return Complained(error)
        _, waiter = self._requests.pop(number, (None, None))
        return None if waiter is None else Answered(waiter, error)

    def _delivered(self, frame: Frame) -> Delivered:
        fresh = (self.inflow.arrived(pushed["cursor"], pushed["event"]) for pushed in frame["events"])
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

    def may_register_instead(self, error: ModvisorClientError) -> bool:
        """Note why the hello was refused. Return whether to try again as a new agent.

        The network may have forgotten the agent: it expired, or its state was removed.
        """
        was_refused = self._is_registering and not self.was_welcome
        if was_refused or not isinstance(error, Unauthenticated):
            return False
        self._outdated, self.identity.secret = self.identity.secret, None
        self.may_hold_the_id = False
        return True
