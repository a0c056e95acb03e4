"""What fits into a frame, and what a frame may hold."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from modvisor.ipc.errors import RemoteProtocolError, Unserializable
from modvisor.ipc.messages import Hello, Notification, Request, Response, decode, pack, unpack, weight


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        ({"n": [1, {"big": 1 << 64}]}, "n[1].big: integer of 65 bits does not fit in 64"),
        ({"n": -(1 << 63) - 1}, "n: integer of 64 bits does not fit in 64"),
        ({"when": datetime(2026, 1, 1)}, "when: datetime without a time zone"),
        ({"x": object()}, "x: cannot carry a builtins.object"),
        ({"x": {1, 2}}, "x: cannot carry a builtins.set"),
        ({"x": "\ud800"}, "x: text that is not valid Unicode"),
        ({"x": {(1, object()): 1}}, "key (1, <object object"),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_place(payload: dict[str, Any], said: str) -> None:
    with pytest.raises(Unserializable) as caught:
        pack(payload)
    assert str(caught.value).startswith(said)


def test_a_payload_that_contains_itself_is_an_error_not_a_crash() -> None:
    payload: dict[str, Any] = {}
    payload["self"] = payload
    with pytest.raises(Unserializable, match="nested deeper"):
        pack(payload)
    assert unpack(pack({"fine": 1})) == {"fine": 1}


ERROR = {"code": "timeout", "message": "too late", "details": {}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0, 7, "ping", None], Request(7, "ping", None)),
        ([0, 0, "event", {"event": {}}], Request(0, "event", {"event": {}})),
        ([1, 7, None, [1, 2]], Response(7, None, [1, 2])),
        ([1, 7, ERROR, None], Response(7, ERROR, None)),
        ([2, "cancel", {"id": 7}], Notification("cancel", {"id": 7})),
    ],
)
def test_the_three_shapes(value: list[Any], message: object) -> None:
    assert decode(pack(value)) == message


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        [3, 7, "ping", None],
        [0, 7, "ping"],
        [0, -1, "ping", None],
        [0, True, "ping", None],
        [0, 7, b"ping", None],
        [0, 7, "ping", [1]],
        [1, 7, {"code": "timeout"}, None],
        [1, "7", None, None],
        [2, "cancel", 7],
    ],
)
def test_any_other_shape_is_refused(value: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="neither a request"):
        decode(pack(value))


def test_hello_is_read_as_it_is_written() -> None:
    hello = Hello(1, 4711, "3.11", "0.1.0", shared_memory=True)
    assert hello.to_dict()["shelf"] is True, "the key on the wire"
    assert Hello.from_dict(hello.to_dict()) == hello
    without = {key: value for key, value in hello.to_dict().items() if key != "shelf"}
    assert not Hello.from_dict(without).shared_memory


@pytest.mark.parametrize("data", [None, {}, {"protocol": "1", "pid": 1, "python": "", "modvisor": ""}])
def test_any_other_hello_is_refused(data: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="hello: expected"):
        Hello.from_dict(data)


def test_data_weighs_more_the_more_it_holds() -> None:
    light: dict[str, Any] = {"a": [1, 2]}
    assert weight({}) < weight(light) < weight({"a": [[1], [2]]}) < weight({"a": [[1], [2]], "b": "x" * 1000})
    assert weight("x" * 1000) == 1000
    assert weight(7) == 0
