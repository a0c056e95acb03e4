"""What nodes say to each other about an event: a question with the event in it, and the answer. Pure.

What is sent is a list; its first value says what it is, see `Question`, `Copy`, `Notice`, `Filed`. It is
written and read in one pass, each value checked. An event travels as its sender's node has packed it
for mods, and its answer as the worker has packed it: neither is packed a second time.

| answer | meaning |
|---|---|
| bytes | the mod's answer, as the frame of its pipe |
| None | the mod passes the event on |
| ``[RESPONSE, data]``, ``[CHANGED, data]`` | its answer, or the event that goes on, as plain data |
| ``[PROBLEM, code, text, details, may ask again]`` | there is no answer |
| ``[FILE, name, owner]`` | an answer that is too large for a message: it lies in the files of the network |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ....ipc.errors import Code, InvalidEvent, ModvisorError, RemoteProtocolError
from ....ipc.event import Event, EventResponse
from ....ipc.messages import unpack
from ....ipc.usual import NOT_USUAL, Answer, read_event, read_in_supervisor
from ...calls import Answer as ModAnswer
from ...calls import Journey, Unanswered

ASK, OBSERVE, NOTIFY = 0, 1, 2
RESPONSE, CHANGED, PROBLEM, FILE = 0, 1, 2, 3
PING = 4

Passage = tuple[str, int]
"""What names a question in all the network: the asking node's run, and a number in it."""

LONGEST_WAIT = 86_400.0
"""Seconds that a node waits for another one at most: a durable event has no deadline of its own."""

_KEPT = 64 * 1024  # bytes up to which the packed event is kept for the worker, as in `Journey`


class BadFrame(ModvisorError):
    """A message that no node of this version sends."""

    code = Code.PROTOCOL_ERROR


class Question(msgspec.Struct, array_like=True, tag=ASK, gc=False):
    """A mod is asked about an event.

    Attributes:
        asker, number: name the question; asked again, it has the same name.
        is_again: it may have come before.
        left: seconds until the sender gives up.
        chain: the questions that this one descends from, the nearest first.
        packed: the event.
    """

    asker: str
    number: int
    is_again: bool
    left: float
    allowed: float | None
    attempt: int
    owner: str | None
    versions: dict[str, str | None] | None
    chain: Sequence[Passage]
    packed: bytes

    @property
    def passage(self) -> Passage:
        return self.asker, self.number

    def journey(self, now: float) -> Journey:
        """Return the event on its way. Raises `BadFrame`."""
        journey = Journey(event_of(self.packed), now + self.left, allowed=self.allowed)
        journey.attempt, journey.owner, journey.versions = self.attempt, self.owner, self.versions
        if self.attempt == 1 and len(self.packed) <= _KEPT:
            journey._packed = self.packed
        return journey


class Copy(msgspec.Struct, array_like=True, tag=OBSERVE):
    """An event for the mod's observers, packed."""

    packed: bytes


class Notice(msgspec.Struct, array_like=True, tag=NOTIFY):
    """An event that the mod is notified of, packed."""

    packed: bytes


class Filed(msgspec.Struct, array_like=True, tag=FILE):
    """A question that lies in a file.

    Attributes:
        owner: of its event: what the owner sends afterwards waits for it.
    """

    name: str
    owner: str | None


class Ping(msgspec.Struct, array_like=True, tag=PING):
    """Is answered at once by a node that serves the mod."""


Sent = Question | Copy | Notice | Filed | Ping

encoded: Callable[[Sent], bytes] = msgspec.msgpack.Encoder().encode
"""Return what a node sends to one that has a mod."""

_read = msgspec.msgpack.Decoder(Sent).decode


def sent(body: bytes | msgspec.Raw) -> Sent:
    """Return what a node has sent. Raises `BadFrame`."""
    try:
        return _read(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise BadFrame("a node asked in a form that this version does not know") from None


def event_data(packed: bytes) -> dict[str, Any]:
    """Return the event of a copy or a notice as plain data. Raises `BadFrame`."""
    try:
        data = unpack(packed)
    except RemoteProtocolError as error:
        raise BadFrame(f"a node sent no valid event: {error}") from None
    if type(data) is not dict:
        raise BadFrame("a node sent no valid event: it is no map")
    return data


def event_of(packed: bytes) -> Event:
    """Return an event that a node has packed. Raises `BadFrame`."""
    try:
        return read_event(packed)
    except NOT_USUAL:
        pass
    try:
        return Event.from_dict(unpack(packed))
    except (InvalidEvent, RemoteProtocolError) as error:
        raise BadFrame(f"a node sent no valid event: {error}") from None


# -- answers


def said(answer: ModAnswer, journey: Journey) -> Any:
    """Return the answer of a mod as it is told to the node that asks."""
    if answer is None:
        return None
    if type(answer) is EventResponse:
        return [RESPONSE, answer.to_dict()] if journey.answer is None else journey.answer
    assert isinstance(answer, Event)
    return [CHANGED, answer.to_dict()]


def problem(error: ModvisorError, *, may_ask_again: bool = False) -> list[Any]:
    """Return why there is no answer. ``may_ask_again``: nobody has begun with the event."""
    return [PROBLEM, str(error.code), str(error), error.details, may_ask_again]


class AskAgain(Exception):
    """The node has not begun with the event; why is in ``failure``."""

    def __init__(self, failure: Unanswered) -> None:
        super().__init__(str(failure))
        self.failure = failure


def heard(reply: Any, journey: Journey) -> ModAnswer:
    """Return the answer that a node has told.

    Raises:
        Unanswered: there is none.
        AskAgain: there is none, and another node may be asked.
        BadFrame: it has a form that this version does not know.
    """
    journey.answer = None
    if reply is None:
        return None
    try:
        if type(reply) is bytes:
            return _of_frame(reply, journey)
        match reply:
            case [0, dict(data)]:
                return EventResponse.from_dict(data)
            case [1, dict(data)]:
                return Event.from_dict(data)
            case [2, str(code), str(text), dict(details), bool(may_ask_again)]:
                failure = Unanswered(text, code=code)
                failure.details = details
                raise AskAgain(failure) if may_ask_again else failure
    except (InvalidEvent, RemoteProtocolError) as error:
        raise BadFrame(f"the node that has the mod gave no valid answer: {error}") from None
    raise BadFrame("the node that has the mod answered in a form that this version does not know")


def _of_frame(frame: bytes, journey: Journey) -> EventResponse:
    try:
        answer = read_in_supervisor(frame)
        if type(answer) is not Answer or answer.result is None:
            raise BadFrame("the node that has the mod gave no valid answer")
        response = answer.result.response
    except NOT_USUAL:
        match unpack(frame):
            case [1, _, None, {"response": data}]:
                response = EventResponse.from_dict(data)
            case _:
                raise BadFrame("the node that has the mod gave no valid answer") from None
    journey.answer = frame
    return response
