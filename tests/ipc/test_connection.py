"""Two real ends against each other in memory, and one end against a stranger."""

from __future__ import annotations

import os
import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from modvisor.ipc.connection import Connection
from modvisor.ipc.errors import (
    FrameTooLarge,
    LocalProtocolError,
    PipeBusy,
    ProtocolError,
    RemoteProtocolError,
    Unserializable,
)
from modvisor.ipc.frames import FrameDecoder
from modvisor.ipc.messages import Notification, Request, Response


def frame(value: Any) -> bytes:
    body = msgpack.packb(value)
    return struct.pack(">I", len(body)) + body


def test_a_request_and_its_answer() -> None:
    ours, theirs = Connection(), Connection()
    request_id, data = ours.request("event", {"x": 1})
    assert theirs.receive_data(data) == [Request(request_id, "event", {"x": 1})]
    (response,) = ours.receive_data(theirs.respond(request_id, {"y": 2}))
    assert isinstance(response, Response)
    assert (response.id, response.error, response.result) == (request_id, None, {"y": 2})
    assert ours.in_flight == 0


def test_an_error_and_a_notification() -> None:
    ours, theirs = Connection(), Connection()
    request_id, data = ours.request("load", {})
    theirs.receive_data(data)
    (response,) = ours.receive_data(theirs.refuse(request_id, "import_failed", "no module", {"where": "x.py:1"}))
    assert isinstance(response, Response)
    assert response.error == {"code": "import_failed", "message": "no module", "details": {"where": "x.py:1"}}
    assert theirs.receive_data(ours.notify("cancel", {"id": 7})) == [Notification("cancel", {"id": 7})]


@pytest.mark.parametrize("rest", [b"\x01", b"\xc1", b""])
def test_what_a_stranger_sends_too_much_reaches_no_other_connection(rest: bytes) -> None:
    body = msgpack.packb([2, "note", {"text": "x" * 2000}]) + rest
    with suppress(RemoteProtocolError):
        Connection().receive_data(struct.pack(">I", len(body)) + body)
    for text in ("y" * 1500, "z" * 3000):
        assert Connection().receive_data(frame([2, "note", {"text": text}])) == [Notification("note", {"text": text})]


def test_a_connection_that_is_hardly_used_takes_little_memory() -> None:
    Connection().receive_data(frame([2, "note", {"text": "x" * 2000}]))  # what all connections of a thread share
    tracemalloc.start()
    try:
        held = [Connection() for _ in range(50)]
        for connection in held:
            connection.receive_data(frame([2, "note", {"text": "x" * 2000}]))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / len(held) < 8 * 1024


@given(st.lists(st.dictionaries(st.text(max_size=3), st.binary(max_size=50), max_size=3), max_size=8), st.data())
def test_messages_come_out_whole_however_the_bytes_arrive(
    payloads: list[dict[str, bytes]], data: st.DataObject
) -> None:
    ours, theirs = Connection(), Connection()
    stream = b"".join(ours.request("event", payload)[1] for payload in payloads)
    received = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        received.extend(theirs.receive_data(stream[:cut]))
        stream = stream[cut:]
    assert [message.params for message in received if isinstance(message, Request)] == payloads


def test_a_large_message_passes_and_its_memory_is_given_back() -> None:
    ours, theirs = Connection(), Connection()
    blob = os.urandom(16 * 1024 * 1024)
    request_id, data = ours.request("event", {"blob": blob})
    (message,) = theirs.receive_data(data)
    assert isinstance(message, Request)
    assert message.params["blob"] == blob
    theirs.receive_data(ours.notify("cancel", {"id": request_id}))
    theirs.frames.buffer()
    assert len(theirs.frames.buffer()) <= 256 * 1024


def test_over_the_frame_cap_nothing_is_sent_and_the_pipe_stays_in_step() -> None:
    ours, theirs = Connection(max_frame=1000), Connection(max_frame=1000)
    with pytest.raises(FrameTooLarge, match="the cap is 1000"):
        ours.request("event", {"blob": b"x" * 1000})
    request_id, data = ours.request("event", {"small": 1})
    theirs.receive_data(data)
    with pytest.raises(FrameTooLarge):
        theirs.respond(request_id, "y" * 1000)
    (response,) = ours.receive_data(theirs.refuse(request_id, "too_large", "the answer was too large"))
    assert isinstance(response, Response)
    assert response.error is not None
    assert ours.in_flight == 0


def test_an_unserializable_message_leaves_no_trace() -> None:
    ours = Connection()
    with pytest.raises(Unserializable, match=r"^x: cannot carry"):
        ours.request("event", {"x": object()})
    assert ours.in_flight == 0
    assert ours.request("event", {})[0] == 0


def test_requests_without_an_answer_are_capped() -> None:
    ours = Connection(max_requests=2)
    ours.request("a", {})
    ours.request("b", {})
    with pytest.raises(PipeBusy):
        ours.request("c", {})


def test_an_abandoned_answer_is_dropped_when_it_comes() -> None:
    ours, theirs = Connection(), Connection()
    request_id, data = ours.request("event", {})
    theirs.receive_data(data)
    assert ours.abandon(request_id)
    assert ours.receive_data(theirs.respond(request_id, 1)) == []
    assert not ours.abandon(request_id)
    assert ours.in_flight == 0


def test_our_own_mistakes_are_local_errors() -> None:
    with pytest.raises(LocalProtocolError, match="request 5 is not open"):
        Connection().respond(5, None)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack(">I", 0xFFFFFFFF), "frame of 4294967295 bytes announced; the cap is 1000"),
        (struct.pack(">I", 1) + b"\xc1", "not a msgpack value"),
        (struct.pack(">I", 0), "not a msgpack value"),
        (frame([0, 1, "event", None]) + frame([0, 1, "event", None]), "request id 1 is used twice"),
        (frame([1, 3, None, None]), "answer to request 3, which is not open"),
        (frame([3, 1]), "neither a request, a response nor a notification"),
        (frame([0, -1, "event", None]), "neither"),
        (frame([0, True, "event", None]), "neither"),
        (frame([0, 1, "event", [1]]), "neither"),
        (frame([1, 0, "oops", None]), "neither"),
        (frame({"a": 1}), "neither"),
        (struct.pack(">I", 5) + b"\x81\x80\xc0\xc0\xc0", "not a msgpack value"),
        (struct.pack(">I", 3) + b"\xa2\xff\xff", "not a msgpack value"),
        (struct.pack(">I", 400) + b"\x91" * 400, "not a msgpack value"),
    ],
)
def test_a_stranger_who_breaks_the_rules(data: bytes, said: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Connection(max_frame=1000).receive_data(data)
    assert said in str(caught.value)


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_any_bytes_are_messages_or_a_typed_error(data: bytes) -> None:
    connection = Connection(max_frame=1000)
    with suppress(RemoteProtocolError):
        connection.receive_data(data)


class TwoEnds(RuleBasedStateMachine):
    """Two ends agree after any order of requests, answers and refusals, delivered in any pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.ends = [Connection(max_requests=5), Connection(max_requests=5)]
        self.wires = [b"", b""]  # what each end has sent and the other has not received
        self.sent = [0, 0]  # bytes ever written by each end
        self.received = [0, 0]  # bytes ever read by the other
        self.asked: list[set[int]] = [set(), set()]
        self.abandoned: list[set[int]] = [set(), set()]
        self.to_answer: list[set[int]] = [set(), set()]
        self.answers: list[list[tuple[int, int]]] = [[], []]  # (where it ends on the wire, request id)

    def send(self, side: int, data: bytes) -> None:
        self.wires[side] += data
        self.sent[side] += len(data)

    @rule(side=st.sampled_from([0, 1]))
    def ask(self, side: int) -> None:
        try:
            request_id, data = self.ends[side].request("event", {"n": 1})
        except PipeBusy:
            assert len(self.asked[side]) == 5
            return
        self.asked[side].add(request_id)
        self.send(side, data)

    @rule(side=st.sampled_from([0, 1]), refuse=st.booleans(), data=st.data())
    def answer(self, side: int, refuse: bool, data: st.DataObject) -> None:
        if self.to_answer[side]:
            request_id = data.draw(st.sampled_from(sorted(self.to_answer[side])))
            end = self.ends[side]
            self.send(side, end.refuse(request_id, "x", "y") if refuse else end.respond(request_id, [1]))
            self.answers[side].append((self.sent[side], request_id))
            self.to_answer[side].discard(request_id)

    @rule(side=st.sampled_from([0, 1]), data=st.data())
    def abandon(self, side: int, data: st.DataObject) -> None:
        if self.asked[side]:
            request_id = data.draw(st.sampled_from(sorted(self.asked[side])))
            assert self.ends[side].abandon(request_id)
            self.abandoned[side].add(request_id)

    @rule(side=st.sampled_from([0, 1]), size=st.integers(1, 64))
    def deliver(self, side: int, size: int) -> None:
        piece, self.wires[side] = self.wires[side][:size], self.wires[side][size:]
        other = 1 - side
        self.received[side] += len(piece)
        came = {answered for end, answered in self.answers[side] if end <= self.received[side]}
        self.answers[side] = [(end, answered) for end, answered in self.answers[side] if end > self.received[side]]
        told = set()
        for message in self.ends[other].receive_data(piece):
            if isinstance(message, Request):
                self.to_answer[other].add(message.id)
            elif isinstance(message, Response):
                told.add(message.id)
        assert told == came - self.abandoned[other]
        self.asked[other] -= came

    @invariant()
    def both_count_the_same(self) -> None:
        for side in (0, 1):
            assert self.ends[side].in_flight == len(self.asked[side])


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=60, stateful_step_count=40)


def test_protocol_errors_are_of_one_family() -> None:
    assert issubclass(RemoteProtocolError, ProtocolError)
    assert issubclass(FrameTooLarge, LocalProtocolError)


def test_the_buffer_grows_with_what_is_read_at_once_and_is_small_before() -> None:
    decoder = FrameDecoder()
    assert decoder.capacity <= 16 * 1024
    frame = b"\0\0\0\x64" + bytes(100)
    stream = memoryview(frame * 20_000)
    count = 0
    while stream:
        room = decoder.buffer()
        size = min(len(room), len(stream))
        room[:size] = stream[:size]
        stream = stream[size:]
        count += sum(1 for _ in decoder.advance(size))
    assert count == 20_000
    assert decoder.capacity == 256 * 1024
