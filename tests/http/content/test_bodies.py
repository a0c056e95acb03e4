"""What a request says: keys, numbers and flags of bodies and queries, sizes, credentials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from modvisor.supervisor.http.content.as_json import BadBody
from modvisor.supervisor.http.content.bodies import (
    TooLarge,
    bearer_of,
    check_keys,
    check_query,
    credentials,
    flag_of,
    flag_query,
    json_body,
    number_query,
    optional_json_body,
    read_body,
    text_of,
    whole_query,
)

pytestmark = pytest.mark.anyio


def request(query: str = "", headers: dict[str, str] | None = None, chunks: tuple[bytes, ...] = ()) -> Request:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        body = left.pop(0) if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": query.encode(), "headers": raw}
    return Request(scope, receive)


# -- the body


async def test_a_body_is_read_up_to_its_limit() -> None:
    assert await read_body(request(chunks=(b"ab", b"", b"cd")), 4) == b"abcd"
    with pytest.raises(TooLarge, match="larger than 4 bytes") as caught:
        await read_body(request(chunks=(b"ab", b"cde")), 4)
    assert (caught.value.code, caught.value.details) == ("too_large", {"limit": 4})


@pytest.mark.parametrize("length", ["5", "-1", "x", "9" * 30, "1_0"])
async def test_a_length_that_is_too_large_or_no_number_is_refused_unread(length: str) -> None:
    refused = request(headers={"Content-Length": length})
    with pytest.raises(TooLarge):
        await read_body(refused, 4)
    assert not refused._stream_consumed


async def test_an_empty_body_may_be_an_object_without_keys() -> None:
    assert await optional_json_body(request()) == {}
    assert await optional_json_body(request(chunks=(b'{"a": 1}',))) == {"a": 1}
    with pytest.raises(BadBody):
        await json_body(request())


def test_a_text_may_be_missing_null_or_empty() -> None:
    body = {"null": None, "empty": "", "text": "a", "number": 5}
    assert [text_of(body, key) for key in ("missing", "null", "empty", "text")] == [None, None, None, "a"]
    with pytest.raises(BadBody, match="number: expected text, got int"):
        text_of(body, "number")


def test_a_flag_of_a_body_is_a_boolean() -> None:
    assert [flag_of({"a": True}, "a"), flag_of({}, "a"), flag_of({}, "a", True)] == [True, False, True]
    for value in (1, "true", None):
        with pytest.raises(BadBody, match="a: expected true or false"):
            flag_of({"a": value}, "a")


def test_a_misspelt_key_is_named() -> None:
    check_keys({"a": 1}, frozenset({"a", "b"}))
    with pytest.raises(BadBody, match="unknown keys 'c', 'd'; known are a, b"):
        check_keys({"d": 1, "c": 1, "a": 1}, frozenset({"a", "b"}))
    check_query(request("a=1"), "a", "b")
    with pytest.raises(BadBody, match="unknown keys 'c'; known are a, b"):
        check_query(request("c=1"), "b", "a")


# -- the query


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("10", 10.0), ("2.5", 2.5), ("1e1", 10.0)])
def test_a_number_within_its_range(text: str, value: float) -> None:
    assert number_query(request(f"n={text}"), "n", None, 0.0, 10.0) == value


@pytest.mark.parametrize("text", ["", "x", "-0.1", "10.1", "nan", "inf", "1,5"])
def test_no_number_or_one_outside_its_range(text: str) -> None:
    with pytest.raises(BadBody, match="n: expected a number from 0 to 10"):
        number_query(request(f"n={text}"), "n", None, 0.0, 10.0)


@pytest.mark.parametrize("text", ["", "x", "0", "11", "1.0", "+1", "²", "٣", "9" * 30])
def test_no_whole_number_or_one_outside_its_range(text: str) -> None:
    with pytest.raises(BadBody, match="n: expected a whole number from 1 to 10"):
        whole_query(request(f"n={text}"), "n", None, 1, 10)


@pytest.mark.parametrize("read", [number_query, whole_query])
def test_a_missing_number_is_the_default(read: Callable[..., Any]) -> None:
    assert read(request(), "n", 7, 1, 10) == 7
    assert read(request("n=3"), "n", 7, 1, 10) == 3


def test_a_flag_of_a_query_is_1_or_true() -> None:
    found = [flag_query(request(query), "f") for query in ("", "f=0", "f=false", "f=1", "f=TRUE")]
    assert found == [False, False, False, True, True]
    for query in ("f=", "f=yes", "f=2"):
        with pytest.raises(BadBody, match="f: expected 1 or 0"):
            flag_query(request(query), "f")


# -- who sends it


def test_credentials_come_from_the_query_or_from_headers() -> None:
    headers = {"X-Agent-Id": "agent:bob", "Authorization": "bearer two"}
    assert credentials(request("agent_id=agent:alice&secret=one")) == ("alice", "one")
    assert credentials(request(headers=headers)) == ("bob", "two")
    assert credentials(request("agent_id=alice&secret=one", headers)) == ("alice", "one")
    assert credentials(request("agent_id=&secret=")) == (None, None)


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("BEARER  abc ", "abc"),
        ("Bearer", ""),
        ("Basic abc", None),
        ("", None),
        ("Bearerabc", None),
    ],
)
def test_a_bearer_token(header: str, token: str | None) -> None:
    assert bearer_of(request(headers={"Authorization": header})) == token
