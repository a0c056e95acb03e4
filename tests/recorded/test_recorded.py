"""The session is played again: pipes, journal and HTTP say what they said when it was recorded."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from .http import answers
from .masks import Masks
from .recording import FOLDER, differences, write
from .session import Lines, wire_and_journal
from .wire import TO_WORKER, Tap, unusual

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="large bytes in shared memory, limits: recorded on Linux"),
]


@pytest.fixture
def base() -> Iterator[Path]:
    """An empty folder with a short name: the path of a unix socket in it has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="rec-") as folder:
        yield Path(folder).resolve()


def compare(found: dict[str, Lines]) -> None:
    told = [line for kind, lines in found.items() for line in differences(FOLDER / f"{kind}.jsonl", lines)]
    assert not told, "not as recorded (if that is meant: python -m tests.recorded):\n" + "\n".join(told)


async def test_the_wire_and_the_journal_are_as_recorded(base: Path) -> None:
    compare(await wire_and_journal(base))


async def test_the_answers_over_http_are_as_recorded(base: Path) -> None:
    compare(await answers(base))


# -- what it is compared with


def test_a_difference_is_told_by_its_place(tmp_path: Path) -> None:
    recorded: Lines = [
        {"request": "a"},
        {"request": "b", "answer": {"code": "timeout", "list": [1, 2]}},
        {"request": "c"},
    ]
    write(tmp_path / "http.jsonl", recorded)
    assert list(differences(tmp_path / "http.jsonl", recorded)) == []
    now: Lines = [recorded[0], {"request": "b", "answer": {"list": [1, 3], "code": "timeout"}}]
    head, line, *places = differences(tmp_path / "http.jsonl", now)
    assert (head, line) == ("http.jsonl:2:", '  {"request": "b", "answer": {"code": "timeout", "list": [1, 2]}}')
    assert places == [
        "    .answer: keys ['code', 'list'], now ['list', 'code']",
        "    .answer.list[1]: recorded 2, now 3",
        '  - {"request": "c"}',
    ]


def test_a_frame_that_is_written_otherwise_is_told() -> None:
    usual = msgpack.packb([0, 7, "event", {"event": {"payload": [1, 2**40, None, b"x", "y"]}}])
    assert list(unusual(usual)) == []
    wide = usual[:1] + b"\x00\xcf" + (7).to_bytes(8, "big") + usual[3:]
    assert msgpack.unpackb(wide) == msgpack.unpackb(usual)
    assert list(unusual(wide)) == [".1"]


def test_bytes_and_descriptors_pass_the_tap_as_they_are() -> None:
    with Tap() as tap:
        here, there = socket.socketpair()
    assert socket.socketpair is not tap._pair
    with here, there, tempfile.TemporaryFile() as file:
        file.write(b"shared")
        file.flush()
        socket.send_fds(here, [b"\x00\x00\x00\x01\xc0"], [file.fileno()])
        data, fds, _, _ = socket.recv_fds(there, 100, 1)
        with open(fds[0], "rb") as passed:
            passed.seek(0)
            assert (data, passed.read()) == (b"\x00\x00\x00\x01\xc0", b"shared")
        here.shutdown(socket.SHUT_WR)
        assert there.recv(1) == b"", "the end passes, too"
    tap.wires[0].join()
    assert list(tap.wires[0].bodies(TO_WORKER)) == [b"\xc0"]


def test_what_differs_from_run_to_run_is_hidden() -> None:
    masks = Masks({"/tmp/here": "<base>"})
    value = {"pid": 7, "code": "timeout", "message": "some prose", "loaded_at": 1.5, "n": 3, "file": "/tmp/here/mod.py"}
    assert masks.value(value) == {
        "pid": "<number>", "code": "timeout", "message": "<text>", "loaded_at": "<number>", "n": 3, "file": "<base>/mod.py"
    }  # fmt: skip
    assert masks.value({"code": b"marshal", "id": "0" * 32, "none": None}) == {
        "code": "<code>",
        "id": "<id>",
        "none": None,
    }
