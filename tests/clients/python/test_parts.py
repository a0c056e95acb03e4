"""The small parts of the client: addresses, patterns, waits, secret files, errors, pieces."""

from __future__ import annotations

import stat
from array import array
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.ipc.errors import Code
from modvisor.ipc.topic import check_pattern
from modvisor.ipc.topic import matches as network_matches
from modvisor_client import AgentClient, errors, pieces, upload
from modvisor_client.address import Address
from modvisor_client.backoff import MOST, Backoff
from modvisor_client.errors import BadUse, NetworkError
from modvisor_client.event import Event, Response
from modvisor_client.patterns import check_patterns, matches
from modvisor_client.pieces import FileBytes, pieces_of, size_of
from modvisor_client.secret_file import read_secret, write_secret


@pytest.mark.parametrize(
    ("url", "ws", "http"),
    [
        ("http://127.0.0.1:8700", "ws://127.0.0.1:8700/ws", "http://127.0.0.1:8700"),
        ("127.0.0.1:8700", "ws://127.0.0.1:8700/ws", "http://127.0.0.1:8700"),
        ("wss://net.example/", "wss://net.example/ws", "https://net.example"),
        ("https://net.example:8443/agents/", "wss://net.example:8443/agents/ws", "https://net.example:8443/agents"),
        ("ws://[::1]:8700", "ws://[::1]:8700/ws", "http://[::1]:8700"),
    ],
)
def test_an_address_is_read_as_users_write_it(url: str, ws: str, http: str) -> None:
    address = Address.parse(url)
    assert (address.ws, address.http) == (ws, http)


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "http://x:99999", "http://x:a", "http://x?a=1", "http://u@x", "http://[::1"]
)
def test_an_address_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(BadUse, match=r"expected the address of a network, such as 'http://127\.0\.0\.1:8700'"):
        Address.parse(url)


@pytest.mark.parametrize("agent_id", ["", "a b", "mod:wiki", "ann/../bob", None])
def test_an_agent_id_that_is_none_is_refused(agent_id: Any) -> None:
    with pytest.raises(BadUse, match=r"agent_id .*: expected letters"):
        AgentClient("http://127.0.0.1:8700", agent_id)


_names = st.lists(st.sampled_from(["a", "b", "page"]), min_size=2, max_size=4).map(".".join)
_patterns = st.one_of(
    st.just("*"), _names, st.lists(st.sampled_from(["a", "b"]), min_size=1).map(lambda p: ".".join([*p, "*"]))
)


@given(_patterns, _names)
def test_a_pattern_matches_what_it_matches_in_the_network(pattern: str, name: str) -> None:
    assert check_patterns((check_pattern(pattern),)) == (pattern,)
    assert matches(pattern, name) == network_matches(pattern, name)


@pytest.mark.parametrize("pattern", ["", "a", "A.b", "a.*.b", ".*", "a..b", "**", None])
def test_a_pattern_that_is_none_is_refused(pattern: Any) -> None:
    with pytest.raises(BadUse, match="expected an event name"):
        check_patterns((pattern,))


def test_waits_double_with_a_random_part_up_to_a_most_and_begin_anew() -> None:
    least, most = Backoff(lambda: 0.0), Backoff(lambda: 1.0)
    waits = [(least.next(), most.next()) for _ in range(40)]
    assert waits[:3] == [(0.05, 0.1), (0.1, 0.2), (0.2, 0.4)]
    assert waits[-1] == (MOST / 2, MOST)
    least.reset()
    assert least.next() == 0.05


def test_a_secret_is_kept_in_a_file_that_its_user_alone_can_read(tmp_path: Path) -> None:
    path = tmp_path / "agents" / "ann.secret"
    assert read_secret(path) is None
    write_secret(path, "first")
    write_secret(path, "s3cret")
    assert (read_secret(path), stat.S_IMODE(path.stat().st_mode)) == ("s3cret", 0o600)
    assert [file.name for file in path.parent.iterdir()] == ["ann.secret"]
    path.chmod(0o640)
    with pytest.raises(BadUse, match=r"others may read it \(mode 0640\); run: chmod 600"):
        read_secret(path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 5000, b"two\nlines"])
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadUse, match="expected the secret of an agent"):
        read_secret(path)


def test_each_code_of_the_network_has_a_class() -> None:
    codes = {str(code) for code in Code}
    assert codes <= errors.BY_CODE.keys()
    for code in codes:
        error = errors.of_code(code, "text", {"error": code, "more": 1})
        assert type(error) is errors.BY_CODE[code]
        assert isinstance(error, NetworkError)
        assert (error.code, error.message, error.data["more"]) == (code, "text", 1)
    names = [kind.__name__ for kind in errors.BY_CODE.values()]
    assert len(names) == len(set(names))
    assert type(errors.of_code("brand_new", "text")) is NetworkError
    assert errors.of_code("brand_new", "text").code == "brand_new"
    assert isinstance(errors.of_code("timeout", "late"), TimeoutError)


def test_a_response_says_what_became_of_an_event() -> None:
    failed = Response.from_wire({"success": False, "message": "no mod x", "data": {"error": "no_such_mod", "mod": "x"}})
    assert (failed.error, failed.delivered) == ("no_such_mod", None)
    with pytest.raises(errors.NoSuchMod, match="no mod x") as caught:
        failed.check()
    assert caught.value.data["mod"] == "x"
    assert Response(True, data={"delivered": 2}).delivered == 2
    assert Response(True, data={"delivered": 2, "more": 1}).delivered is None
    assert Response(True, data=[1]).check().error is None


def test_an_event_of_a_newer_network_is_read_all_the_same() -> None:
    event = Event.from_wire({"event_name": "a.b", "source_id": "agent:x", "payload": {"text": "hi"}, "colour": "red"})
    assert (event.event_name, event.text, event.payload) == ("a.b", "hi", {"text": "hi"})


_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(allow_nan=False), st.text(), st.binary()
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=20), st.dictionaries(st.text(max_size=5), inner, max_size=20)),
    max_leaves=40,
)


@given(_values, st.sampled_from([0, 3, 1000]), st.sampled_from([1, 7, 1000]))
def test_what_is_packed_in_pieces_is_the_same(value: Any, small: int, piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "SMALL", small)
        patch.setattr(pieces, "PIECE", piece)
        found = list(pieces_of(value))
    packed = b"".join(bytes(part) for part in found if not isinstance(part, FileBytes))
    assert msgpack.unpackb(packed, timestamp=3, strict_map_key=False) == value
    assert size_of(found) == len(packed)


def test_large_values_are_cut_and_a_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    large = b"x" * 1_000_000
    found = list(pieces_of({"a": large, "t": "é" * 100_000, "f": FileBytes.of(path), "z": 1}))
    assert max(len(part) for part in found if not isinstance(part, FileBytes)) <= pieces.PIECE + pieces.SMALL
    packed = b"".join(path.read_bytes() if isinstance(part, FileBytes) else bytes(part) for part in found)
    assert msgpack.unpackb(packed) == {"a": large, "t": "é" * 100_000, "f": b"content", "z": 1}
    with pytest.raises(BadUse, match=r"file .*/nothing: No such file"):
        FileBytes.of(tmp_path / "nothing")
    with pytest.raises(BadUse, match="cannot be sent"):
        list(pieces_of({"x": object()}))


def _nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize("value", [{"text": "\ud800" * 70_000}, {"deep": _nested(5000)}], ids=["surrogates", "deep"])
def test_what_cannot_travel_is_bad_use_also_in_pieces(value: Any) -> None:
    with pytest.raises(BadUse, match="cannot be sent: "):
        list(pieces_of(value))


def test_views_of_memory_travel_as_their_bytes() -> None:
    numbers, bytes_of = array("i", range(40_000)), bytes(range(256)) * 1000
    for view, expected in ((memoryview(numbers), numbers.tobytes()), (memoryview(bytes_of)[::2], bytes_of[::2])):
        whole = b"".join(bytes(piece) for piece in pieces_of({"view": view}) if not isinstance(piece, FileBytes))
        assert msgpack.unpackb(whole) == {"view": expected}


@pytest.mark.anyio
async def test_a_name_that_no_host_can_have_is_unreachable() -> None:
    with pytest.raises(errors.Unreachable, match="no network answers"):
        async with AgentClient("http://\u2024\u2024:80", "ann", connect_timeout=0.01):
            pass


@pytest.mark.anyio
async def test_a_file_that_is_gone_when_it_is_sent_is_bad_use(tmp_path: Path) -> None:
    with pytest.raises(BadUse, match=r"file .*/gone: No such file"):
        [part async for part in upload._file(FileBytes(tmp_path / "gone", 5))]
