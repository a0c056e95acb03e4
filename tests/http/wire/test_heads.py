"""The head of an ordinary request: what `read_head` reads, h11 reads in the same way."""

from __future__ import annotations

from typing import Any

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from modvisor.supervisor.http.wire.heads import MOST_LINES, Head, read_head, read_query
from modvisor.supervisor.http.wire.parser import Parser

POST = b"POST /api/send_event HTTP/1.1\r\nHost: 10.0.0.5:8700\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n"
GET = b"GET /api/poll?agent_id=a&wait=5 HTTP/1.1\r\nhost: x\r\nX-Agent-Id:  a \t\r\nAccept:\r\nconnection: Keep-Alive\r\n\r\n"


def by_h11(data: bytes) -> tuple[Any, ...]:
    """Return what h11 reads: method, target, headers, length of the body, and what is left behind it."""
    parser = Parser()
    parser.receive_data(data)
    request, size = parser.next_event(), 0
    assert isinstance(request, h11.Request)
    while isinstance(event := parser.next_event(), h11.Data):
        size += len(event.data)
    assert isinstance(event, h11.EndOfMessage)
    headers = [(name.decode(), value.decode()) for name, value in request.headers]
    return request.method.decode(), request.target.decode(), sorted(headers), size, parser.trailing_data[0]


def by_us(data: bytes) -> tuple[Any, ...] | None:
    head = read_head(data)
    if head is None:
        return None
    assert len(data) >= head.size + head.length
    target = head.path + ("?" + head.query if b"?" in data.partition(b" HTTP")[0] else "")
    rest = data[head.size + head.length :]
    return head.method, target, sorted(head.headers.items()), head.length, rest


def test_what_an_ordinary_request_says() -> None:
    headers = {"host": "10.0.0.5:8700", "content-type": "application/json", "content-length": "5"}
    assert read_head(POST) == Head("POST", "/api/send_event", "", headers, len(POST), 5)
    assert read_head(GET + b"more") == Head(
        "GET", "/api/poll", "agent_id=a&wait=5",
        {"host": "x", "x-agent-id": "a", "accept": "", "connection": "Keep-Alive"}, len(GET), 0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [
        b"",
        POST[:-1],
        POST.replace(b"POST", b"PUT"),
        POST.replace(b"1.1", b"1.0"),
        POST.replace(b"Host: 10.0.0.5:8700\r\n", b""),
        POST.replace(b"Host", b"Host: b\r\nHost"),
        POST.replace(b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 5"),
        POST.replace(b": 5", b": +5"),
        POST.replace(b": 5", b": 5, 5"),
        POST.replace(b": 5", b": 12345678"),
        POST.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        POST.replace(b"Content-Length: 5", b"Expect: 100-continue\r\nContent-Length: 5"),
        POST.replace(b"Content-Length: 5", b"Connection: close"),
        POST.replace(b"Content-Length: 5", b"Connection: upgrade\r\nUpgrade: websocket"),
        POST.replace(b"Content-Length: 5", b"Origin: https://example.com"),
        POST.replace(b"application", b"\xc3\xa9"),
        POST.replace(b"application", b"\x00"),
        POST.replace(b"Content-Type: ", b"Content-Type : "),
        POST.replace(b"Content-Type: ", b" Content-Type: "),
        POST.replace(b"\r\n", b"\n"),
        POST.replace(b"\r\nContent-Type", b"\r\n\tContent-Type"),
        POST.replace(b"/api", b"http://x/api"),
        GET.replace(b"accept:", b"Content-Length: 5", 1).replace(b"Accept:", b"Content-Length: 5"),
        POST.replace(b"\r\n\r\n", b"\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(MOST_LINES)) + b"\r\n"),
    ],
)
def test_what_is_left_to_h11(data: bytes) -> None:
    assert read_head(data) is None


PARTS = st.sampled_from(
    [
        b"GET ", b"POST ", b"/", b"/api/poll", b"?", b"a=b&c", b"#", b" ", b"\t", b" HTTP/1.1", b" HTTP/1.0", b"\r\n",
        b"\n", b"\r", b"\r\n\r\n", b"Host: x", b"host:y", b"Content-Length: 3", b"content-length:0", b"Content-Length: 03",
        b"Transfer-Encoding: chunked", b"Connection: keep-alive", b"Connection: close", b"X-a: \x80", b"X: \x00", b"_b: c",
        b"X-Y:", b": z", b"3\r\nabc\r\n0\r\n\r\n", b"abc",
    ]
)  # fmt: skip
LINES = st.lists(
    st.sampled_from(
        [
            b"Host: x", b"host:y", b"Content-Length: 3", b"Content-Length: 0", b"content-length:03", b"Accept: */*",
            b"Connection: keep-alive", b"Connection: close", b"Transfer-Encoding: chunked", b"X-Y:", b"a_b: \tc \t",
            b"X: a:b", b" folded", b"Bad name: x", b"X\x0b: y", b"X: \x0b", b"Content-Length: 3, 3", b"Te: x",
        ]
    ),
    max_size=6,
)  # fmt: skip
TARGETS = st.sampled_from([b"/", b"/api/poll?a=b", b"/?", b"/#x?y", b"*", b"/a b", b"/a\x7f", b"/%41"])
SHAPED = st.builds(
    lambda method, target, lines, body: (
        method + b" " + target + b" HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body
    ),
    st.sampled_from([b"GET", b"POST", b"HEAD"]),
    TARGETS,
    LINES,
    st.sampled_from([b"", b"abc", b"abcGET / HTTP/1.1\r\nHost: x\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"]),
)


@given(SHAPED | st.lists(PARTS, max_size=12).map(b"".join))
@example(POST + b"abcde")
@example(POST + b"abcdeGET / HTTP/1.1\r\n")
@example(GET)
def test_no_head_is_read_differently_than_h11_reads_it(data: bytes) -> None:
    head = read_head(data)
    if head is not None and len(data) >= head.size + head.length:
        assert by_us(data) == by_h11(data)


@given(st.text(alphabet="ab=&%+2;é 0") | st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126)))
@example("agent_id=alice&secret=a-b_c&wait=5")
@example("a&=b&&c=d=e&a=2")
def test_a_query_is_read_as_starlette_reads_it(query: str) -> None:
    assert read_query(query) == dict(QueryParams(query))
