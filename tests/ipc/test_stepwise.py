"""Large frames are decoded in steps; what they hold, and what is refused, is the same as at once."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc import connection as connection_module
from modvisor.ipc import messages, stepwise
from modvisor.ipc.connection import Connection
from modvisor.ipc.errors import RemoteProtocolError
from modvisor.ipc.messages import Request, pack, unpack, weight
from modvisor.ipc.stepwise import StepwiseDecoder

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=50,
)


@pytest.fixture
def tiny_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST", "SHORTEST", "LONGEST"):
        monkeypatch.setattr(stepwise, name, 3)


def decoded(frame: bytes) -> tuple[Any, int]:
    """Return the value, and how many pauses its decoding made."""
    decoder = StepwiseDecoder(memoryview(frame), msgpack.ExtType)
    pauses = sum(1 for _ in decoder.steps())
    return decoder.value, pauses


def array_of(count: int, item: bytes) -> bytes:
    return b"\xdd" + struct.pack(">I", count) + item * count


@given(values)
def test_a_value_is_the_same_however_it_is_decoded(value: Any) -> None:
    frame = pack(value)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FIRST", "SHORTEST", "LONGEST"):
            patch.setattr(stepwise, name, 3)
        found, pauses = decoded(frame)
    assert found == unpack(frame) == value
    assert pauses == (len(frame) - 1) // 3


@pytest.mark.usefixtures("tiny_steps")
@pytest.mark.parametrize(
    "frame",
    [
        b"",
        pack([1, 2, 3])[:-1],
        pack({"a": ["x" * 100]}) + b"\x00",
        pack([1, 2]) + pack([3, 4]),
        b"\xc1" * 20,
        b"\xa4\xff\xff\xff\xff" * 4,
        b"\x91" * 5000 + b"\xc0",
        b"\x81\x90\xc0" + b"\xc0" * 10,
    ],
    ids=["nothing", "cut", "more behind it", "two", "no msgpack", "no text", "too deep", "a key that is a list"],
)
def test_what_is_not_one_value_is_refused(frame: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="is not a msgpack value"):
        decoded(frame)
    with pytest.raises(RemoteProtocolError, match="is not a msgpack value"):
        unpack(frame)


def test_others_have_a_turn_while_a_large_message_is_decoded() -> None:
    ours, theirs = Connection(), Connection()
    _, data = theirs.request("send_event", {"numbers": [1.5] * 400_000})
    came = []
    view = memoryview(data)
    while view:
        room = ours.frames.buffer()
        count = min(len(room), len(view))
        room[:count] = view[:count]
        came += ours.received(count)
        view = view[count:]
    assert len(data) > stepwise.STEPWISE
    assert came[:-1] == [None] * (len(came) - 1)
    assert len(came) > 2
    assert isinstance(came[-1], Request)
    assert came[-1].params == {"numbers": [1.5] * 400_000}
    assert ours.owed_weight >= weight(came[-1].params)


@pytest.mark.parametrize(
    "body",
    [
        array_of(2_000_000, b"\x01"),
        array_of(2000, array_of(1000, b"\x01")),
        array_of(2_000_000, b"\x90"),
        array_of(2000, array_of(1000, b"\x90")),
        array_of(700_000, b"\x81\xa0\x01"),
        b"\xdf" + struct.pack(">I", 700_000) + b"\xa0\x01" * 700_000,
        b"\x93\x02\xa1x\x81\xa1x" + array_of(2_000_000, b"\xc0"),
    ],
    ids=["numbers", "lists of numbers", "lists", "lists of lists", "maps", "one map", "params of a notification"],
)
def test_a_bomb_of_small_values_is_refused_before_it_is_whole(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (messages, connection_module):
        monkeypatch.setattr(module, "MAX_UNPACKED", 20_000_000)
    connection = Connection()
    with pytest.raises(RemoteProtocolError, match="take up more than 20000000 bytes of memory"):
        connection.receive_data(struct.pack(">I", len(body)) + body)


def test_large_texts_and_bytes_take_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock that stands still each step is quick, so the next one is longer."""
    monkeypatch.setattr(stepwise, "perf_counter", lambda: 0.0)
    for value in ("x" * 8_000_000, b"\x90" * 8_000_000):
        found, pauses = decoded(pack(value))
        assert found == value
        assert pauses == 6
