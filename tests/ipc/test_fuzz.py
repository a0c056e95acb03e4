"""Bytes of a stranger: all of them are a message or a typed error, in bounded time and memory.

Hypothesis varies the structure; a seeded generator makes large numbers of frames.
``MODVISOR_FUZZ_SEED`` repeats a run of the generator.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.ipc import connection as connection_module
from modvisor.ipc import messages
from modvisor.ipc.connection import Connection
from modvisor.ipc.errors import (
    FrameTooLarge,
    InvalidEvent,
    LocalProtocolError,
    ModvisorError,
    RemoteProtocolError,
    RequestFailed,
)
from modvisor.ipc.event import MAX_DEPTH, Event, EventResponse
from modvisor.ipc.frames import FrameDecoder
from modvisor.ipc.manifest import Manifest
from modvisor.ipc.messages import Hello, Message, Request, Response, decode, unpack
from modvisor.ipc.pipe import Pipe

SEED = int(os.environ.get("MODVISOR_FUZZ_SEED") or random.SystemRandom().getrandbits(32))
MANY = int(os.environ.get("MODVISOR_FRAMES", "100000"))
"""Frames of the slow test. `make long` sends more."""

MAX_FRAME = 4096
MOST = 256 * 1024 + MAX_FRAME + 8192
"""Bytes that a decoder with this cap may hold: one read, and a frame."""

EVENT = {
    "event_name": "wiki.page.create", "event_id": "0123456789abcdef", "timestamp": 1700000000.5, "source_id": "agent:alice",
    "destination_id": "mod:wiki", "payload": {"title": "žluťoučký", "tags": ["a", "b"], "n": 5, "blob": b"\x00\xff"},
}  # fmt: skip
HELLO = {"protocol": 1, "pid": 7, "python": "3.11.7", "modvisor": "0.1.0"}
MANIFEST = {
    "mod_class": "a.b:C", "version": "1.0", "description": "x", "patterns": ["a.*", "b.c"], "observes": ["*"],
    "file": "/a/b.py",
}  # fmt: skip
ERROR = {"code": "handler_error", "message": "no", "details": {"where": "x.py:1"}}

VALID: list[Any] = [
    [0, 5, "send_event", {"event": EVENT, "cause": 3}],
    [0, 6, "query", {"what": "agents"}],
    [0, 7, "ping", None],
    [1, 0, None, {"response": {"success": True, "message": "fine", "data": [1, 2.5, None]}}],
    [1, 0, None, {"event": EVENT}],
    [1, 0, None, MANIFEST],
    [1, 0, ERROR, None],
    [2, "hello", HELLO],
    [2, "cancel", {"id": 5}],
    [2, "no such", {}],
]
BODIES = [msgpack.packb(value) for value in VALID]

ODD: list[Any] = [
    None, True, False, 0, 1, 2, 3, -1, 5, 1 << 32, (1 << 64) - 1, -(1 << 63), 0.0, 1.5, float("nan"), float("inf"), "", "x",
    "send_event", "cancel", "x" * 300, b"", b"\xff" * 20, [], [[]], {}, {"id": 5}, {"id": []}, {1: 2}, {b"k": None},
    {"event": {}}, {"event": EVENT}, EVENT, HELLO, MANIFEST, ERROR, {"code": 1}, msgpack.Timestamp(1 << 33, 5),
    msgpack.Timestamp((1 << 63) - 1, 0), msgpack.ExtType(5, b"ext"),
]  # fmt: skip

PARSERS: tuple[Callable[[Any], Any], ...] = (
    Event.from_dict, EventResponse.from_dict, Manifest.from_dict, Hello.from_dict,
)  # fmt: skip


def framed(body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">I", len(body) if length is None else length) + body


# -- a generator of frames


class Frames:
    """Makes frames of every kind. The same seed makes the same frames."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.kinds = (
            [self.valid] * 3 + [self.mutated] * 2 + [self.hostile] * 2 + [self.garbage, self.lying, self.nested]
        )

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self.random.choice(self.kinds)()

    def valid(self) -> bytes:
        return framed(self.random.choice(BODIES))

    def mutated(self) -> bytes:
        """Return a valid body with bytes changed, removed, doubled or inserted; the length is right."""
        body = bytearray(self.random.choice(BODIES))
        for _ in range(self.random.choice((1, 1, 1, 2, 8))):
            at = int(self.random.random() * len(body))
            match int(self.random.random() * 5):
                case 0:
                    body[at : at + 1] = bytes([body[at] ^ (1 << int(self.random.random() * 8))]) if body else b""
                case 1:
                    body[at : at + 1] = self.random.randbytes(1)
                case 2:
                    del body[at : at + int(self.random.random() * 4)]
                case 3:
                    body[at:at] = body[at : at + 8]
                case _:
                    body[at:at] = self.random.randbytes(2)
        return framed(bytes(body))

    def garbage(self) -> bytes:
        return framed(self.random.randbytes(int(self.random.random() * 48)))

    def hostile(self) -> bytes:
        """Return msgpack of nearly the right shape: odd ids, wrong types, stray answers."""
        choose = self.random.choice
        kind = choose((0, 0, 1, 1, 2, 3, None))
        match kind:
            case 0:
                value = [0, choose((5, 6, 7, choose(ODD))), choose(("event", choose(ODD))), choose(ODD)]
            case 1:
                value = [1, choose((0, choose(ODD))), choose((None, choose(ODD))), choose(ODD)]
            case 2:
                value = [2, choose(("cancel", "hello", choose(ODD))), choose(ODD)]
            case _:
                value = [choose(ODD) for _ in range(int(self.random.random() * 5))]
        return framed(msgpack.packb(value))

    def lying(self) -> bytes:
        """Return a frame that announces a wrong length."""
        body = self.random.choice(BODIES)
        return framed(
            body, self.random.choice((0, 1, len(body) - 1, len(body) + 1, MAX_FRAME, MAX_FRAME + 1, 0xFFFFFFFF))
        )

    def nested(self) -> bytes:
        """Return nested containers, some of which announce more than they have."""
        opening = self.random.choice(
            (b"\x91", b"\x81\x01", b"\xdc\xff\xff", b"\xdd\x00\xff\xff\xff", b"\xdf\xff\xff\xff\xff\x01")
        )
        depth = self.random.choice((2, 50, 300, 1100)) // len(opening)
        return framed(b"\x93\x02\xa1x" * int(self.random.random() * 2) + opening * depth + b"\xc0")


def honest_end() -> Connection:
    connection = Connection(max_frame=MAX_FRAME, max_requests=50)
    connection.request("event", {})
    return connection


def parse(value: Any) -> None:
    """Build what the network builds of a message's content; typed errors are fine."""
    for parser in PARSERS:
        with suppress(InvalidEvent, RemoteProtocolError):
            parser(value)


def content(message: Message) -> Any:
    return message.result if isinstance(message, Response) else message.params


@pytest.mark.parametrize("number_of_frames", [15_000, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.timeout(600)
def test_random_frames(tell: Callable[[str], None], number_of_frames: int) -> None:
    """Give each frame to a connection in use: it is a message, a typed error or incomplete."""
    counts: Counter[str] = Counter()
    frames = iter(Frames(SEED))
    connection = honest_end()
    waiting = False
    for number in range(number_of_frames):
        frame = next(frames)
        try:
            came = connection.receive_data(frame)
        except RemoteProtocolError:
            counts["refused"] += 1
            connection, waiting = honest_end(), False
            continue
        except BaseException as error:
            raise AssertionError(f"seed {SEED}, frame {number}: {frame.hex()}") from error
        counts["accepted" if came else "unfinished"] += 1
        assert connection.frames.capacity <= MOST
        if waiting and connection.frames.pending:  # else all that follows would be the rest of this frame
            connection = honest_end()
        waiting = connection.frames.pending > 0
        for message in came:
            if type(message) is Request:
                connection.respond(message.id, None)
            if number % 16 == 0:
                parse(content(message))
        if connection.in_flight == 0:
            connection.request("event", {})
    told = ", ".join(f"{counts[what]:,} {what}" for what in ("accepted", "refused", "unfinished"))
    tell(f"fuzz: {number_of_frames:,} random frames, {told} (MODVISOR_FUZZ_SEED={SEED})")
    assert counts.total() == number_of_frames
    assert min(counts.values()) > number_of_frames // 100, "every kind of outcome is tried"


def test_the_generator_repeats_itself() -> None:
    first, again, other = (iter(Frames(seed)) for seed in (1, 1, 2))
    made = [next(first) for _ in range(500)]
    assert made == [next(again) for _ in range(500)]
    assert made != [next(other) for _ in range(500)]


# -- the decoder and the connection


def outcome(stream: bytes, cuts: list[int], max_frame: int = MAX_FRAME) -> tuple[list[Message], str | None]:
    """Return the messages and the error of a stream that arrives in pieces; NaN becomes text."""
    connection = Connection(max_frame=max_frame, max_requests=50)
    connection.request("event", {})
    came: list[Message] = []
    try:
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            view = memoryview(stream)[start:end]
            while view:
                room = connection.frames.buffer()
                count = min(len(room), len(view))
                room[:count] = view[:count]
                came.extend(connection.received(count))
                view = view[count:]
                assert connection.frames.capacity <= MOST
    except RemoteProtocolError as error:
        assert_broken(connection, error)
        return came, str(error)
    return came, None


def assert_broken(connection: Connection, error: RemoteProtocolError) -> None:
    """A broken connection raises its reason again, and counts nothing."""
    in_flight, owed = connection.in_flight, connection.owed
    for data in (framed(BODIES[-1]), b"\x00"):
        with pytest.raises(RemoteProtocolError, match="of no further use") as caught:
            connection.receive_data(data)
        assert str(error) in str(caught.value)
    for send in (lambda: connection.request("event", {}), lambda: connection.notify("cancel", {})):
        with pytest.raises(LocalProtocolError, match="broke the protocol"):
            send()
    assert (connection.in_flight, connection.owed) == (in_flight, owed)


def test_the_same_bytes_are_the_same_messages_however_they_are_cut() -> None:
    for seed in range(SEED, SEED + 300):
        chance = random.Random(seed)
        frames = iter(Frames(seed))
        valid = [framed(msgpack.packb([2, "note", {"n": n}])) for n in range(chance.randrange(20))]
        stream = b"".join([*valid, *(next(frames) for _ in range(chance.randrange(1, 12)))])
        whole = outcome(stream, [])
        bytewise = outcome(stream, list(range(1, len(stream))))
        pieces = outcome(stream, sorted(chance.randrange(len(stream) + 1) for _ in range(10)))
        assert repr(whole) == repr(bytewise) == repr(pieces), f"seed {seed}"
        assert len(whole[0]) >= len(valid), f"seed {seed}"


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=60).map(framed) | st.binary(max_size=60), max_size=6), st.data())
def test_any_bytes_in_any_pieces(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    assert repr(outcome(stream, cuts)) == repr(outcome(stream, []))


@pytest.mark.parametrize("length", [1, 4096, 1 << 20, 64 << 20])
@pytest.mark.parametrize("sent", [0, 1, 5000])
def test_an_announced_length_takes_no_memory(length: int, sent: int) -> None:
    decoder = FrameDecoder()
    stream = struct.pack(">I", length) + b"\xc0" * min(sent, length - 1)
    tracemalloc.start()
    try:
        for start in range(0, len(stream), 1000):
            piece = stream[start : start + 1000]
            decoder.buffer()[: len(piece)] = piece
            assert list(decoder.advance(len(piece))) == []
            decoder.buffer()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert decoder.capacity <= 256 * 1024


def test_a_frame_of_the_largest_size_takes_its_size() -> None:
    decoder = FrameDecoder(max_frame := 3_000_000)
    body = os.urandom(max_frame)
    left, came = memoryview(framed(body) * 2), []
    while left:
        room = decoder.buffer()
        count = min(len(room), len(left), 100_000)
        room[:count] = left[:count]
        came.extend(bytes(frame) for frame in decoder.advance(count))
        left = left[count:]
        assert decoder.capacity <= max_frame + 8192
    assert came == [body, body]


@pytest.mark.parametrize(
    "opening", [b"\xdc\xff\xff", b"\xdd\x00\x00\x40\x00", b"\xdf\x00\x00\x10\x00\x01", b"\x9f", b"\x8f\x01"]
)
@pytest.mark.parametrize("size", [1000, 60_000])
def test_lists_that_announce_what_they_do_not_bring_are_not_built(opening: bytes, size: int) -> None:
    body = (opening * 1000)[: size - 1]
    frame = framed(body + b"\xc0" * (size - len(body)))
    connection = Connection()
    connection.receive_data(framed(BODIES[-1]))  # fill caches
    connection.receive_data(framed(msgpack.packb([2, "x", {"a": bytes(60_000)}])))  # the buffer has grown
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="not a msgpack value"):
            connection.receive_data(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 600_000


@pytest.mark.parametrize("item", [b"\x90", b"\x80", b"\xe0", b"\x91\xc0", b"\x81\xc0\xc0"])
def test_a_frame_whose_values_would_fill_the_memory_is_refused(item: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "LARGE", 50_000)
    monkeypatch.setattr(messages, "MAX_UNPACKED", 1_000_000)
    frame = b"\xdd" + struct.pack(">I", 50_000) + item * 50_000
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError, match="take up more than 1000000 bytes"):
            unpack(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    blob = msgpack.packb({"blob": b"\x90" * 200_000, "list": ["x" * 100] * 1000})
    assert len(unpack(blob)["blob"]) == 200_000


def test_the_heaviest_frame_that_is_not_weighed_is_not_too_heavy() -> None:
    """No byte of a frame weighs more than a list in a list does."""
    for value in ([[]], [[[]]], {"": []}, {"": {}}, [{}], [-10], [{"": None}], {"a": "b"}, [b"", ""]):
        body = msgpack.packb([value] * 10)
        assert messages.weight([value] * 10) <= 64 + 104 * len(body)


def test_what_the_peer_would_find_too_heavy_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (messages, connection_module):
        monkeypatch.setattr(module, "LARGE", 10_000)
        monkeypatch.setattr(module, "MAX_UNPACKED", 1_040_000)
    ours, values = Connection(), [[]] * 11_000
    with pytest.raises(FrameTooLarge, match=r"take up 1144\d* bytes of memory; the cap is 1040000"):
        ours.request("event", {"x": values})
    assert ours.in_flight == 0
    with pytest.raises(RemoteProtocolError, match="take up"):
        unpack(messages.pack(values))


@pytest.mark.parametrize(
    ("params", "least", "most"),
    [
        ({}, 10, 100),
        ({"blob": b"x" * 100_000}, 100_000, 101_000),
        ({"list": [[] for _ in range(1000)]}, 72_000, 150_000),
        ({"list": [{"a": i} for i in range(1000)]}, 100_000, 400_000),
        ({"list": [-10] * 1000}, 40_000, 50_000),
    ],
)
def test_what_awaits_our_answer_is_weighed_as_it_lies_in_memory(params: dict[str, Any], least: int, most: int) -> None:
    ours, theirs = Connection(), Connection()
    numbers = []
    for _ in range(3):
        number, data = theirs.request("send_event", params)
        ours.receive_data(data)
        numbers.append(number)
    assert ours.owed == 3
    assert 3 * least <= ours.owed_weight <= 3 * most
    for number in numbers:
        ours.respond(number, None)
    assert (ours.owed, ours.owed_weight) == (0, 0)


def test_an_honest_end_keeps_count_whatever_the_other_sends() -> None:
    """After answers, repeats and garbage in any order, the unanswered requests are in flight."""
    chance = random.Random(SEED)
    for round_ in range(3000):
        ours = Connection(max_frame=MAX_FRAME, max_requests=20)
        open_ids: set[int] = set()
        given_up: set[int] = set()
        for _ in range(chance.randrange(1, 25)):
            match chance.randrange(6):
                case 0 | 1 if len(open_ids) < 20:
                    open_ids.add(ours.request("event", {"n": 1})[0])
                case 2 if open_ids:
                    number = chance.choice(sorted(open_ids))
                    given_up.add(number)
                    assert ours.abandon(number)
                case 3 | 4 if open_ids:
                    number = chance.choice(sorted(open_ids))
                    error = chance.choice((None, ERROR))
                    came = ours.receive_data(framed(msgpack.packb([1, number, error, {"x": 1}])))
                    assert [message.id for message in came if isinstance(message, Response)] == (
                        [] if number in given_up else [number]
                    )
                    open_ids.discard(number)
                case _:
                    number = chance.choice((*sorted(open_ids)[:1], 10**6, (1 << 64) - 1))
                    if number in open_ids:
                        continue
                    with pytest.raises(RemoteProtocolError, match="not open"):
                        ours.receive_data(framed(msgpack.packb([1, number, None, None])))
                    break
            assert ours.in_flight == len(open_ids), f"seed {SEED}, round {round_}"


# -- what stands in the frames

keys = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
)
anything = st.recursive(
    keys | st.builds(msgpack.Timestamp, st.integers(0, (1 << 63) - 1)) | st.just(msgpack.ExtType(7, b"x")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=15,
)  # fmt: skip
named = st.sampled_from(
    [*EVENT, *HELLO, *MANIFEST, "success", "message", "data", "allowed_agents", "hops", "via", "timeout"]
)
nearly = st.builds(
    lambda base, changed: {**base, **changed},
    st.sampled_from([EVENT, HELLO, MANIFEST, {"success": True}, {}]),
    st.dictionaries(named, anything, max_size=3),
)


@settings(max_examples=150)
@given(anything | nearly)
def test_any_value_is_what_it_should_be_or_a_typed_error(value: Any) -> None:
    parse(value)
    body = msgpack.packb(value)
    with suppress(RemoteProtocolError):
        parse(unpack(body))
    for shape in ([0, 1, "x", value], [1, 0, value, None], [1, 0, None, value], [2, "x", value], value):
        with suppress(RemoteProtocolError):
            decode(msgpack.packb(shape))


def nest(depth: int, value: Any = None) -> Any:
    for level in range(depth):
        value = [value] if level % 2 else {"x": value}
    return value


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 400, 1000])
@pytest.mark.parametrize(
    "key", ["payload", "metadata", "event_name", "event_id", "source_id", "timeout", "allowed_agents"]
)
def test_data_nested_too_deeply_is_an_invalid_event(key: str, depth: int) -> None:
    with pytest.raises(InvalidEvent):
        Event.from_dict({"event_name": "a.b", key: {"x": nest(depth)}})


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 400, 1000])
def test_responses_and_manifests_nested_too_deeply_are_typed_errors(depth: int) -> None:
    for data in (
        {"success": True, "data": nest(depth)},
        {"success": nest(depth)},
        {"success": True, "message": nest(depth)},
    ):
        with pytest.raises(InvalidEvent):
            EventResponse.from_dict(data)
    for key in ("patterns", "observes", "version"):
        with pytest.raises(RemoteProtocolError):
            Manifest.from_dict({**MANIFEST, key: [nest(depth)]})


def test_data_as_deep_as_allowed_can_be_copied_and_sent() -> None:
    event = Event.from_dict({"event_name": "a.b", "payload": nest(MAX_DEPTH - 1) | {}})
    assert event.copy() == event
    assert Event.from_dict(unpack(messages.pack(event.to_dict()))) == event
    assert EventResponse.from_dict({"success": True, "data": nest(MAX_DEPTH)}).success


def test_what_a_message_shows_of_a_huge_value_is_short() -> None:
    for huge in ("\x00" * 10**6, b"\x00" * 10**6, [0] * 10**6, {n: n for n in range(10**5)}, nest(900)):
        for data in (
            {"event_name": huge},
            {"event_name": "a.b", "source_id": huge},
            {"event_name": "a.b", "timeout": huge},
        ):
            with pytest.raises(InvalidEvent) as caught:
                Event.from_dict(data)
            assert len(str(caught.value)) < 400
        with pytest.raises(RemoteProtocolError) as told:
            Manifest.from_dict({**MANIFEST, "patterns": [huge]})
        assert len(str(told.value)) < 400


# -- a pipe on a socket pair


class Victim:
    """An honest pipe that answers and asks, and the complaints of its loop."""

    def __init__(self) -> None:
        ours, self.stranger = socket.socketpair()
        self.stranger.setblocking(False)
        self.complaints: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: self.complaints.append(context))
        self.reasons: list[ModvisorError] = []
        self.pipe = Pipe(
            ours,
            on_request=lambda request: self.pipe.respond(request.id, None),
            on_notification=lambda _note: None,
            on_close=self.reasons.append,
            max_frame=MAX_FRAME,
            max_requests=50,
        )


@pytest.mark.anyio
async def test_a_pipe_whose_peer_is_a_stranger() -> None:
    """Random streams: every caller gets an answer or a typed error; the loop never complains."""
    chance = random.Random(SEED)
    frames = iter(Frames(SEED))
    ends: Counter[str] = Counter()
    for _ in range(400):
        victim = Victim()
        calls = [asyncio.create_task(victim.pipe.request("event", {})) for _ in range(3)]
        await asyncio.sleep(0)
        stream = b"".join(next(frames) for _ in range(chance.randrange(1, 8)))
        for cut in (stream[: len(stream) // 2], stream[len(stream) // 2 :]):
            with suppress(BrokenPipeError, ConnectionResetError):
                victim.stranger.send(cut)
            await asyncio.sleep(0)
        how = chance.randrange(3)
        if how == 0:
            victim.stranger.close()
        elif how == 1:
            victim.pipe.close_after_reading()
        else:
            for _ in range(3):
                await asyncio.sleep(0)
            victim.pipe.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        victim.stranger.close()
        assert len(victim.reasons) == 1
        assert victim.pipe.closed is victim.reasons[0]
        assert victim.complaints == []
        for result in results:
            assert not isinstance(result, Exception) or isinstance(result, ModvisorError), f"seed {SEED}"
        ends[type(victim.reasons[0]).__name__ + victim.reasons[0].code] += 1
    assert len(ends) == 3, ends


@pytest.mark.anyio
async def test_details_of_a_refusal_are_a_strangers_data() -> None:
    victim = Victim()
    call = asyncio.create_task(victim.pipe.request("event", {}))
    await asyncio.sleep(0)
    details = {"message": 1, "code": 2, "self": 3, "x": 4, 5: 6, b"7": 8, "": 9}
    victim.stranger.send(framed(msgpack.packb([1, 0, {"code": "odd", "message": "no", "details": details}, None])))
    with pytest.raises(RequestFailed) as caught:
        await call
    assert caught.value.details == {"x": 4, "": 9}
    victim.pipe.close()
    victim.stranger.close()
