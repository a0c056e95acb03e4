"""Both ways of a frame, with msgspec and without it, give the same values or the same refusal."""

from __future__ import annotations

import dataclasses
import enum
import struct
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor import ipc
from modvisor.ipc import usual
from modvisor.ipc.connection import Connection
from modvisor.ipc.errors import FrameTooLarge, InvalidEvent, ModvisorError, Unserializable
from modvisor.ipc.event import Event, EventResponse
from modvisor.ipc.messages import Request, pack, unpack

from .plain import plain_ipc

EVENT_HEAD = b"\x94\x00\xcf" + bytes(7) + b"\x07" + b"\xa5event\x81\xa5event"
SENT_HEAD = b"\x94\x00\xcf" + bytes(7) + b"\x07" + b"\xaasend_event"
TOLD_HEAD = b"\x94\x01\xcf" + bytes(8) + b"\xc0"
ANSWER_HEAD = b"\x94\x01\xcf" + bytes(8) + b"\xc0\x81\xa8response"

text = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | text
    | st.binary(max_size=9)
    | st.datetimes(timezones=st.just(UTC))
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text | st.integers(0, 9), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["wiki.page.create", "a.b", "A.b", "", "a"])
addresses = st.sampled_from([None, "agent:alice", "alice", "mod:wiki", "robot:x", "agent:broadcast", "", "mod:../x"])
fields_of_an_event = st.fixed_dictionaries(
    {"event_name": names, "payload": values | st.dictionaries(text, values, max_size=4)},
    optional={
        "source_id": addresses | values,
        "destination_id": addresses | values,
        "event_id": text | values,
        "timestamp": st.floats() | st.integers(-5, 5) | values,
        "metadata": st.dictionaries(text, values, max_size=2) | values,
        "timeout": st.floats() | st.integers(-1, 700) | values,
        "visibility": st.sampled_from(["network", "restricted", "secret"]) | values,
        "allowed_agents": st.lists(text, max_size=2) | values,
        "hops": st.integers(-1, 40) | values,
        "requires_response": st.booleans() | values,
        "thread_name": text | values,
        "colour": values,  # a field of a newer peer
    },
)
fields_of_a_response = st.fixed_dictionaries(
    {}, optional={"success": st.booleans() | values, "message": text | values, "data": values, "extra": values}
)
fields_of_a_sent_event = st.fixed_dictionaries(
    {"event": fields_of_an_event},
    optional={
        "cause": st.none() | st.integers(-1, 9) | st.lists(st.integers(0, 3), max_size=3) | values,
        "extra": values,
    },
)
edits = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=3)


def framed(head: bytes, fields: Any, edits: list[tuple[int, int]], cut: int = 0) -> bytes:
    """Return a frame with some of its bytes changed."""
    body = bytearray(head + msgpack.packb(fields, datetime=True))
    for at, value in edits:
        body[at % len(body)] = value
    del body[len(body) - cut :]
    return struct.pack(">I", len(body)) + body


def event_in(package: Any, frame: bytes) -> str:
    """Return the event that a worker finds in a frame, or why it refuses it."""
    connection = package.connection.Connection(takes_events=True)
    try:
        (request,) = connection.receive_data(frame)
        if not isinstance(request, package.messages.Request) or request.method != "event":
            return repr(request)
        params = request.params
        event = params["event"] if isinstance(params, dict) else params.event
        event = event if isinstance(event, package.event.Event) else package.event.Event.from_dict(event)
    except (TypeError, KeyError):
        return "no event"
    except package.errors.ModvisorError as refusal:
        return f"{type(refusal).__name__}: {refusal}"
    return shown(request, event, frame)


def shown(request: Any, event: Any, frame: bytes) -> str:
    if event.event_id.encode() not in frame:
        event.event_id = "made here"
    if abs(event.timestamp - time.time()) < 60:
        event.timestamp = 0.0
    return f"{request.id} {event!r}"


def sent_in(package: Any, frame: bytes) -> str:
    """Return the event that the core finds in a frame of a worker, or why it refuses it."""
    try:
        (request,) = package.connection.Connection().receive_data(frame)
        if not isinstance(request, package.messages.Request) or request.method != "send_event":
            return repr(request)
        params = request.params or {}
        if isinstance(params, dict):
            event, cause = package.event.Event.from_dict(params.get("event")), params.get("cause")
        else:
            event, cause = params.event, params.cause
    except package.errors.ModvisorError as refusal:
        return f"{type(refusal).__name__}: {refusal}"
    return f"{shown(request, event, frame)} caused by {cause!r}"


def told_in(package: Any, frame: bytes) -> str:
    """Return the response to the request 0 that a worker finds in a frame, or why it refuses it."""
    connection = package.connection.Connection(takes_events=True)
    connection.request("send_event", None)
    try:
        (response,) = connection.receive_data(frame)
        if not isinstance(response, package.messages.Response):
            return repr(response)
        result = response.result
        if response.error is None and not isinstance(result, package.event.EventResponse):
            result = package.event.EventResponse.from_dict(result)
    except package.errors.ModvisorError as refusal:
        return f"{type(refusal).__name__}: {refusal}"
    return f"{response.id} {response.error!r} {result!r}"


def answer_in(package: Any, frame: bytes) -> str:
    """Return the answer to the request 0 that the core finds in a frame, or why it refuses it."""
    connection = package.connection.Connection()
    connection.request("event", None)
    try:
        (response,) = connection.receive_data(frame)
        if not isinstance(response, package.messages.Response):
            return repr(response)
        result = response.result
        if isinstance(result, package.usual.Answered):
            result = result.response
        elif type(result) is dict and "response" in result and response.error is None:
            result = package.event.EventResponse.from_dict(result["response"])
    except package.errors.ModvisorError as refusal:
        return f"{type(refusal).__name__}: {refusal}"
    return f"{response.id} {response.error!r} {result!r} {response.frame!r}"


@settings(max_examples=120)
@given(fields_of_an_event, edits, st.sampled_from([0, 0, 0, 1, 5]))
def test_an_event_is_read_alike(fields: Any, edits: list[tuple[int, int]], cut: int) -> None:
    frame = framed(EVENT_HEAD, fields, edits, cut)
    assert event_in(ipc, frame) == event_in(plain_ipc, frame)


@settings(max_examples=120)
@given(fields_of_a_response, edits, st.sampled_from([0, 0, 0, 1, 5]))
def test_an_answer_is_read_alike(fields: Any, edits: list[tuple[int, int]], cut: int) -> None:
    frame = framed(ANSWER_HEAD, fields, edits, cut)
    assert answer_in(ipc, frame) == answer_in(plain_ipc, frame)


@settings(max_examples=100)
@given(fields_of_a_sent_event, edits, st.sampled_from([0, 0, 0, 1, 5]))
def test_an_event_of_a_worker_is_read_alike(fields: Any, edits: list[tuple[int, int]], cut: int) -> None:
    frame = framed(SENT_HEAD, fields, edits, cut)
    assert sent_in(ipc, frame) == sent_in(plain_ipc, frame)


@settings(max_examples=100)
@given(fields_of_a_response, edits, st.sampled_from([0, 0, 0, 1, 5]))
def test_the_response_to_a_worker_is_read_alike(fields: Any, edits: list[tuple[int, int]], cut: int) -> None:
    frame = framed(TOLD_HEAD, fields, edits, cut)
    assert told_in(ipc, frame) == told_in(plain_ipc, frame)


@given(st.dictionaries(text | st.integers(0, 9), values, max_size=5))
def test_an_event_is_written_alike(payload: dict[Any, Any]) -> None:
    event = Event("wiki.page.create", "agent:alice", "mod:wiki", payload=payload, timeout=2.5, hops=3)
    written = usual.usual_event(event)
    if written is not None:
        assert repr(sorted(unpack(written).items())) == repr(sorted(unpack(pack(event.to_dict())).items()))


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int = 1


ODD = [{1, 2}, frozenset(), Decimal(1), UUID(int=1), Colour.RED, Point(), datetime(2026, 1, 1).date(), 1 << 64, "\ud800",
       datetime(2026, 1, 1), EventResponse(True), object(), (1, {2}), [Decimal(1)], {"x": {3}}, {Colour.RED: 1}]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=[type(odd).__name__ + str(n) for n, odd in enumerate(ODD)])
def test_what_msgpack_cannot_carry_is_not_carried_by_msgspec_either(odd: Any) -> None:
    event = Event("a.b", payload={"deep": [{"odd": odd}], "odd": odd})
    assert usual.usual_event(event) is None
    with pytest.raises(Unserializable, match=r"^(payload|key)"):
        pack(event.to_dict())


@pytest.mark.parametrize("addresses", [(None, None), ("agent:alice", None), (None, "mod:wiki"), ("alice", "mod:wiki")])
@pytest.mark.parametrize("field", ["thread_name", "text_representation", "secret", "cause", "requires_response"])
def test_a_rare_field_that_cannot_be_carried_is_not_carried(
    field: str, addresses: tuple[str | None, str | None]
) -> None:
    event = Event("a.b", *addresses, payload={})
    setattr(event, field, Decimal(1))
    assert usual.usual_event(event) is None
    setattr(event, field, "text")
    packed = usual.usual_event(event)
    assert packed is not None
    assert unpack(packed) == event.to_dict()


def test_a_payload_that_somebody_has_replaced_by_a_list_takes_the_long_way() -> None:
    event = Event("a.b")
    event.payload = [1]  # type: ignore[assignment]
    assert usual.usual_event(event) is None
    assert event.payload == [1]


def test_the_usual_frames_are_read_and_written_in_one_pass() -> None:
    ours, theirs = Connection(), Connection(takes_events=True)
    event = Event("a.b", "agent:alice", "mod:wiki", {"text": "é", "tags": ["x", 1], "deep": [{"a": {"b": [None]}}]})
    packed = usual.usual_event(event)
    assert packed is not None
    request_id, data = ours.event(packed)
    assert theirs.receive_data(data) == [usual.EventRequest(request_id, "event", usual.Asked(event))]
    answer = EventResponse(True, "done", {"n": 1, "list": [1.5, True, None]})
    (response,) = ours.receive_data(theirs.answer(request_id, answer.to_dict()))
    assert type(response) is usual.Answer
    assert response.result == usual.Answered(answer)


def test_an_event_of_a_worker_and_the_response_to_it_are_read_in_one_pass() -> None:
    core, worker = Connection(), Connection(takes_events=True)
    event = Event("a.b", "mod:wiki", "mod:store", {"n": 1})
    request_id, data = worker.request("send_event", {"event": event.to_dict(), "cause": [3, 1]})
    assert core.receive_data(data) == [usual.SentEvent(request_id, "send_event", usual.Sent(event, [3, 1]))]
    answer = EventResponse(True, "done", {"n": 1})
    (response,) = worker.receive_data(core.respond(request_id, answer.to_dict()))
    assert type(response) is usual.Told
    assert response.result == answer


def test_an_event_that_is_passed_on_is_told_apart_from_an_answer() -> None:
    for package in (ipc, plain_ipc):
        ours, theirs = package.connection.Connection(), package.connection.Connection(takes_events=True)
        for answer in (theirs.passed, lambda request_id, to=theirs: to.respond(request_id, None)):
            request_id, data = ours.event(pack({"event_name": "a.b"}))
            theirs.receive_data(data)
            (response,) = ours.receive_data(answer(request_id))
            assert (response.id, response.error, response.result) == (request_id, None, None)
            assert (theirs.owed, ours.in_flight) == (0, 0)


def test_only_a_worker_takes_an_event_from_a_frame() -> None:
    (request,) = Connection().receive_data(framed(EVENT_HEAD, {"event_name": "a.b"}, []))
    assert request == Request(7, "event", {"event": {"event_name": "a.b"}})


def test_of_duplicate_keys_the_last_one_wins() -> None:
    twice = b"\x83\xa7success\xc3\xa4data\x01\xa4data\x02"
    body = ANSWER_HEAD + twice
    frame = struct.pack(">I", len(body)) + body
    assert answer_in(ipc, frame) == answer_in(plain_ipc, frame)
    assert "data=2" in answer_in(ipc, frame)


@pytest.mark.parametrize("lists", [200, 4000])
def test_nesting_without_end_is_refused_alike(lists: int) -> None:
    body = ANSWER_HEAD + b"\x82\xa7success\xc3\xa4data" + b"\x91" * lists + b"\xc0"
    frame = struct.pack(">I", len(body)) + body
    assert answer_in(ipc, frame) == answer_in(plain_ipc, frame)
    assert answer_in(ipc, frame).startswith(("InvalidEvent", "RemoteProtocolError"))


def test_an_answer_above_the_cap_is_refused_before_it_is_sent() -> None:
    ours, theirs = Connection(max_frame=500), Connection(max_frame=500, takes_events=True)
    request_id, data = ours.event(pack({"event_name": "a.b"}))
    theirs.receive_data(data)
    with pytest.raises(FrameTooLarge):
        theirs.respond(request_id, {"response": {"success": True, "data": "x" * 500}})
    assert theirs.respond(request_id, {"response": {"success": True}})
    with pytest.raises(FrameTooLarge):
        ours.event(bytes(500))


@pytest.mark.parametrize("package", [ipc, plain_ipc], ids=["with msgspec", "without"])
def test_events_are_the_same_with_either_base(package: Any) -> None:
    Event = package.event.Event
    event = Event("a.b", "alice", payload={"n": 1}, event_id="1", timestamp=1.0)
    assert dataclasses.replace(event, payload={"n": 2}).payload == {"n": 2}
    assert [field.name for field in dataclasses.fields(event)][:4] == [
        "event_name", "source_id", "destination_id", "payload",
    ]  # fmt: skip
    assert repr(event).startswith("Event(event_name='a.b', source_id='alice', destination_id=None, payload={'n': 1}")
    assert event.twin() == event
    assert event.twin().payload is event.payload
    with pytest.raises(package.errors.InvalidEvent, match="payload: expected a dict"):
        Event("a.b", payload=[])
    with pytest.raises(AttributeError):
        event.colour = "red"
    with pytest.raises(TypeError):
        hash(event)


def test_the_errors_are_the_projects_own() -> None:
    assert issubclass(InvalidEvent, ModvisorError)
    with pytest.raises(InvalidEvent, match=r"^destination_id: expected text"):
        Event("a.b", destination_id=["x"])  # type: ignore[arg-type]
