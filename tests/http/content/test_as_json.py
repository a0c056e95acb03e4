"""JSON for both APIs: what it cannot carry is written legibly or refused by place, never sent broken."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modvisor.ipc.errors import Unserializable
from modvisor.supervisor.http.content.as_json import MAX_DEPTH, BadBody, from_json, from_json_by_python, to_json


def strict(data: bytes) -> Any:
    """JSON by the standard: no NaN, no Infinity, valid UTF-8."""

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(data.decode("utf-8"), parse_constant=refuse)


def nested(depth: int, innermost: Any = None) -> Any:
    value: Any = innermost
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"hi", {"$base64": "aGk="}),
        (bytearray(b""), {"$base64": ""}),
        (float("nan"), {"$float": "NaN"}),
        (float("inf"), {"$float": "Infinity"}),
        (float("-inf"), {"$float": "-Infinity"}),
        (datetime(2026, 1, 31, 12, tzinfo=UTC), "2026-01-31T12:00:00+00:00"),
        (date(2026, 1, 31), "2026-01-31"),
        ({1: "a", None: "c", 1.5: "d"}, {"1": "a", "null": "c", "1.5": "d"}),
        ({1: float("nan"), None: 2, False: 3, 2.5: 4}, {"1": {"$float": "NaN"}, "null": 2, "false": 3, "2.5": 4}),
        ({float("nan"): 1, datetime(2026, 1, 31, tzinfo=UTC): 2}, {"NaN": 1, "2026-01-31T00:00:00+00:00": 2}),
        ((1, (2, b"x")), [1, [2, {"$base64": "eA=="}]]),
        ("grüße \u2028 \x00", "grüße \u2028 \x00"),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_what_json_lacks_is_written_legibly(value: Any, expected: Any) -> None:
    assert strict(to_json(value)) == expected
    assert strict(to_json({"deep": [value]})) == {"deep": [expected]}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"a": [1, {2, 3}]}, "a[1]"),
        ({"a": {"b": object()}}, "a.b"),
        ({"a": {b"key": 1}}, "a: the key b'key'"),
        ({"a": "\ud800"}, "a: text that is not valid Unicode"),
        ({"a": {"\udfff": 1}}, "a key of a"),
        ({"a": 1 << 20_000}, "a: integer of 20001 bits"),
        (nested(700, float("nan")), "nested deeper"),
    ],
)
def test_what_cannot_be_written_is_named_by_its_place(value: Any, named: str) -> None:
    with pytest.raises(Unserializable) as raised:
        to_json(value)
    assert named in str(raised.value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    with pytest.raises(Unserializable, match="nested"):
        to_json(value)


def test_whatever_msgpack_nests_can_be_written() -> None:
    assert to_json(nested(511)) == b"[" * 511 + b"null" + b"]" * 511
    assert to_json(nested(511, float("nan"))) == b"[" * 511 + b'{"$float":"NaN"}' + b"]" * 511


KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats())
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(),
        st.binary(),
        st.datetimes(timezones=st.just(UTC)),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)


@given(VALUES)
def test_every_value_of_the_pipe_becomes_strict_json(value: Any) -> None:
    strict(to_json(value))


JSON_OBJECTS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.recursive(
        st.one_of(
            st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
            st.text(st.characters(exclude_categories=["Cs"])),
        ),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
        ),
        max_leaves=10,
    ),
    max_size=4,
)  # fmt: skip


@given(JSON_OBJECTS)
def test_plain_json_survives_both_ways(data: dict[str, Any]) -> None:
    assert from_json(to_json(data)) == data
    assert from_json(json.dumps(data).encode()) == data


@given(st.binary(max_size=300))
def test_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    with suppress(BadBody):
        assert type(from_json(body)) is dict


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1, 2]", "must be a JSON object, got an array"),
        (b'"text"', "got text"),
        (b"null", "got null"),
        (b"true", "got a boolean"),
        (b"17", "got a number"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not UTF-8"),
        (b'{"a": "\\ud800"}', "not valid Unicode"),
        (b'{"\\uDFFF": 1}', "not valid Unicode"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}", "nested deeper"),
        (b"[" * 100_000, "nested deeper"),
    ],
)
def test_a_body_that_cannot_be_taken_says_why(body: bytes, message: str) -> None:
    with pytest.raises(BadBody, match=message):
        from_json(body)


def test_wide_is_not_deep() -> None:
    wide = {"a": [{} for _ in range(1000)], "b": nested(MAX_DEPTH - 2)}
    assert from_json(json.dumps(wide).encode()) == wide


def test_a_surrogate_pair_is_one_character() -> None:
    assert from_json(b'{"a": "\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_nan_of_python_clients_is_taken() -> None:
    assert str(from_json(b'{"a": NaN}')["a"]) == "nan"


# -- two readers

PIECES = st.sampled_from(
    [
        "{", "}", "[", "]", ",", ":", '"', '"a"', '"b"', '"a":', "null", "true", "NaN", "-Infinity", "0", "-0", "-0.0", "01",
        "1.", ".5", "1e5", "1E400", "-1e-400", "18446744073709551615", "18446744073709551616", "9" * 400, "9" * 5000,
        "0.1e1", '"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', '"\\u0000"', '"\\x"', '"\x01"', '"\x7f"', '"é"', " ", "\n", "\t",
        "\x0c", "\x00", "\ufeff", "/", "\u2028",
    ]
)  # fmt: skip
NEARLY = st.lists(PIECES, max_size=12).map(lambda pieces: "".join(pieces).encode())
IN_OBJECT = st.lists(PIECES, max_size=8).map(lambda pieces: ('{"a":' + "".join(pieces) + "}").encode())
LOOSE = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    ),
    max_size=4,
)


def outcome(read: Any, body: bytes) -> Any:
    """Return what is read, or the refusal. As text: it tells 1 from 1.0 and True, and NaN equals itself."""
    try:
        return repr(read(body))
    except BadBody as refusal:
        return str(refusal)


WRITTEN = st.builds(
    lambda data, is_ascii: json.dumps(data, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass"),
    LOOSE,
    st.booleans(),
)
BROKEN = st.builds(
    lambda body, at, byte: body[: at % len(body)] + byte + body[at % len(body) + 1 :],
    WRITTEN,
    st.integers(min_value=0),
    st.binary(max_size=2),
)


@given(NEARLY | IN_OBJECT | WRITTEN | BROKEN)
@example(b'{"a":1,"b":2,"a":3}')
@example(b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}")
@example(b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}")
@example(b'{"a":' + b"[" * 100_000)
@example(b'\xef\xbb\xbf{"a":1}')
@example(b'{"\xc0\x80":1}')
@example(b'{"a":9007199254740993.0,"b":123456789012345678901234567890.5}')
def test_a_body_is_read_and_refused_as_the_standard_library_does(body: bytes) -> None:
    assert outcome(from_json, body) == outcome(from_json_by_python, body)
