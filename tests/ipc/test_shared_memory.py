"""Large bytes beside the pipe: they arrive as they were lent, and a lying peer is found out."""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgpack
import pytest

from modvisor.ipc import shared_memory, writing
from modvisor.ipc.errors import FrameTooLarge, ModvisorError, PipeBroken, RemoteProtocolError, Unserializable
from modvisor.ipc.messages import LENT_BYTES, REQUEST, Request
from modvisor.ipc.pipe import Pipe
from modvisor.ipc.shared_memory import BEGIN, LARGE_BYTES, Borrowed, Lent, has_large
from tests.conftest import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not shared_memory.is_possible, reason="there is no memfd on this platform"),
]

MAX_FRAME = 8 * 1024 * 1024


class End:
    """Answers every request with its parameters."""

    def __init__(self, sock: socket.socket) -> None:
        self.got: list[Request] = []
        self.ended: asyncio.Future[ModvisorError] = asyncio.get_running_loop().create_future()
        self.pipe = Pipe(
            sock, on_request=self.take, on_notification=print, on_close=self.ended.set_result, max_frame=MAX_FRAME
        )

    def take(self, request: Request) -> None:
        self.got.append(request)
        self.pipe.respond(request.id, request.params, has_large=has_large(request.params))

    async def echo(self, params: dict[str, Any]) -> Any:
        return (await self.pipe.finish(*self.pipe.begin("echo", params, has_large=True))).result


@pytest.fixture
async def pair() -> AsyncIterator[tuple[End, End]]:
    ours, theirs = map(End, socket.socketpair())
    for end in (ours, theirs):
        end.pipe.lend()
    yield ours, theirs
    for end in (ours, theirs):
        end.pipe.close()


def sent_bytes(end: End, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Count the bytes that ``end`` writes to the pipe."""
    total, write = 0, end.pipe._write

    def count(data: bytes) -> None:
        nonlocal total
        total += len(data)
        write(data)

    monkeypatch.setattr(end.pipe, "_write", count)
    return lambda: total


async def test_large_bytes_arrive_and_take_no_room_in_the_pipe(
    pair: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = pair
    counts = [sent_bytes(end, monkeypatch) for end in pair]
    for size in (LARGE_BYTES, 1_000_000, LARGE_BYTES - 1, 3_000_000, 1_000_000):
        params = {"first": os.urandom(size), "n": size, "second": os.urandom(LARGE_BYTES), "deep": {"x": b"y" * size}}
        assert await ours.echo(params) == params
    assert all(count() < 300_000 for count in counts), "only what is small went through"
    assert [request.params["n"] for request in theirs.got] == [
        LARGE_BYTES,
        1_000_000,
        LARGE_BYTES - 1,
        3_000_000,
        1_000_000,
    ]


async def test_many_at_once_share_one_memory_and_the_pipe(pair: tuple[End, End]) -> None:
    blobs = [os.urandom(200_000 + n) for n in range(30)]
    answers = await asyncio.gather(*(end.echo({"blob": blob}) for blob in blobs for end in pair))
    assert [answer["blob"] for answer in answers] == [blob for blob in blobs for _ in pair]


async def test_a_peer_that_does_not_borrow_gets_them_through_the_pipe() -> None:
    ours, theirs = map(End, socket.socketpair())
    blob = os.urandom(1_000_000)
    assert (await ours.echo({"blob": blob})) == {"blob": blob}
    ours.pipe.close()
    theirs.pipe.close()


async def test_without_a_free_descriptor_they_go_through_the_pipe(
    pair: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", refuse)
    blob = os.urandom(1_000_000)
    assert (await pair[0].echo({"blob": blob})) == {"blob": blob}


async def test_what_cannot_be_sent_raises_as_ever_and_lends_nothing(pair: tuple[End, End]) -> None:
    ours, _ = pair
    with pytest.raises(FrameTooLarge, match=f"the cap is {MAX_FRAME}"):
        await ours.echo({"blob": bytes(MAX_FRAME)})
    with pytest.raises(Unserializable, match="odd: cannot carry"):
        await ours.echo({"blob": bytes(LARGE_BYTES), "odd": object()})
    assert ours.pipe._lent is not None
    assert ours.pipe._lent.lend([b"free"])


async def test_memory_that_is_not_used_is_freed(pair: tuple[End, End], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_MEMORY_KEPT", 0.01)
    ours, _ = pair
    await ours.echo({"blob": os.urandom(1_000_000)})
    assert ours.pipe._lent is not None
    fd = ours.pipe._lent._fd
    assert ours.pipe._lent._size > 1_000_000, "so much was needed"
    await until(lambda: os.fstat(fd).st_blocks * 512 == BEGIN)
    await until(lambda: ours.pipe._shrinking is None)
    blob = os.urandom(500_000)
    assert await ours.echo({"blob": blob}) == {"blob": blob}, "and it is allocated again when it is needed"


async def test_descriptors_end_with_the_pipe() -> None:
    before = set(os.listdir("/proc/self/fd"))
    ours, theirs = map(End, socket.socketpair())
    for end in (ours, theirs):
        end.pipe.lend()
    await ours.echo({"blob": bytes(LARGE_BYTES)})
    mapped = 2 * shared_memory.is_mappable
    assert len(os.listdir("/proc/self/fd")) == len(before) + 6 + mapped, "two sockets; two memories, each at both ends"
    ours.pipe.close()
    theirs.pipe.close()
    assert set(os.listdir("/proc/self/fd")) == before


def message(at: int, length: int, *more: tuple[int, int]) -> bytes:
    places = [msgpack.ExtType(LENT_BYTES, struct.pack(">QQ", *place)) for place in ((at, length), *more)]
    body = msgpack.packb([REQUEST, 1, "echo", {"blobs": places}])
    return struct.pack(">I", len(body)) + body


def memfd(size: int) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (message(BEGIN, 10), "never sent"),
        (message(0, 10), "never sent"),
        (message(BEGIN, 10_001), "ends after 10000 of 10001 bytes"),
        (message(2**63, 10), ""),
        (message(BEGIN, MAX_FRAME + 1), "the cap is"),
        (message(BEGIN, 6_000, *[(BEGIN, 6_000)] * 2000), "the cap is"),
        (message(2**62, 10), "shared memory"),
        (struct.pack(">I", 10) + msgpack.packb([2, "x", {"a": msgpack.ExtType(LENT_BYTES, b"")}]), "expected 16"),
    ],
)  # fmt: skip
async def test_a_peer_that_speaks_of_bytes_it_never_lent_has_broken_the_protocol(sent: bytes, told: str) -> None:
    here, there = socket.socketpair()
    end = End(here)
    fd = memfd(BEGIN + 10_000)
    try:
        if told == "never sent" and sent == message(BEGIN, 10):
            there.send(sent)
        else:
            socket.send_fds(there, [sent], [fd])
        reason = await end.ended
        assert isinstance(reason, PipeBroken)
        assert told in str(reason)
        assert end.got == []
    finally:
        os.close(fd)
        there.close()


async def test_memory_that_its_peer_has_sealed_is_read_all_the_same() -> None:
    here, there = socket.socketpair()
    end = End(here)
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, BEGIN + 10)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)
    socket.send_fds(there, [message(BEGIN, 10)], [fd])
    await until(lambda: bool(end.got))
    assert end.got[0].params == {"blobs": [bytes(10)]}
    end.pipe.close()
    there.close()
    os.close(fd)


async def test_a_peer_that_makes_us_read_much_with_little_leaves_the_loop_to_others(pair: tuple[End, End]) -> None:
    here, there = socket.socketpair()
    end, fd = End(here), memfd(BEGIN + MAX_FRAME)
    flood = b"".join(message(BEGIN, 2_000_000).replace(b"\x94\x00\x01", bytes((0x94, 0, n)), 1) for n in range(10))
    socket.send_fds(there, [flood], [fd])
    turns = 0
    while len(end.got) < 10:
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 10, "one such message in a turn"
    end.pipe.close()
    there.close()
    os.close(fd)


async def test_a_descriptor_of_anything_else_is_refused_unread() -> None:
    here, there = socket.socketpair()
    end = End(here)
    before = set(os.listdir("/proc/self/fd"))
    read_end, write_end = os.pipe()
    socket.send_fds(there, [message(BEGIN, 10)], [read_end])
    assert "not one of shared memory" in str(await end.ended)
    os.close(read_end)
    os.close(write_end)
    there.close()
    assert len(os.listdir("/proc/self/fd")) == len(before) - 2


async def test_of_many_descriptors_one_is_kept() -> None:
    here, there = socket.socketpair()
    end = End(here)
    fds = [memfd(BEGIN + 100) for _ in range(20)]
    before = len(os.listdir("/proc/self/fd"))
    body = msgpack.packb([REQUEST, 7, "echo", {"x": 1}])
    socket.send_fds(there, [struct.pack(">I", len(body)) + body], fds)
    await until(lambda: bool(end.got))
    assert len(os.listdir("/proc/self/fd")) == before + 1
    end.pipe.close()
    there.close()
    for fd in fds:
        os.close(fd)


def test_memory_holds_one_message_until_it_is_given_back() -> None:
    lent, borrowed = Lent(), Borrowed()
    assert lent.lend([b"one", b"two"])
    borrowed.use(os.dup(lent.to_send))
    assert not lent.lend([b"three"])
    assert borrowed.read(BEGIN + 3, 3) == b"two"
    borrowed.give_back()
    assert lent.lend([b"three"])
    assert borrowed.read(BEGIN, 5) == b"three"
    lent.close()
    borrowed.close()


@pytest.fixture
def memory() -> Iterator[tuple[Lent, int]]:
    """Memory that lends 1 MB, and the descriptor of it that a peer would get."""
    lent = Lent()
    assert lent.lend([b"x" * 1_000_000])
    fd = os.dup(lent.to_send)
    yield lent, fd
    lent.close()
    os.close(fd)


if_mapped = pytest.mark.skipif(not shared_memory.is_mappable, reason="memory is not mapped on this host")


@if_mapped
def test_mapped_memory_cannot_be_made_shorter_or_sealed_by_the_peer(memory: tuple[Lent, int]) -> None:
    _, fd = memory
    with pytest.raises(PermissionError):
        os.ftruncate(fd, BEGIN)
    with pytest.raises(PermissionError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)


@if_mapped
def test_a_peer_that_makes_holes_ends_the_mapping_and_not_the_lending(memory: tuple[Lent, int]) -> None:
    lent, fd = memory
    assert lent._mapped is not None
    with mmap.mmap(fd, 0) as theirs:
        theirs.madvise(mmap.MADV_REMOVE)
    assert lent.lend([b"y" * 1_000_000])
    assert lent.lend([b"z" * 1_000_000]) is False, "it is lent"
    assert lent._mapped is None
    assert os.pread(fd, 1_000_000, BEGIN) == b"y" * 1_000_000
    os.pwrite(fd, b"\0", 0)
    assert lent.lend([b"z" * 3_000_000])
    assert os.pread(fd, 3_000_000, BEGIN) == b"z" * 3_000_000


@if_mapped
def test_page_faults_of_what_is_lent_do_not_end_the_mapping(memory: tuple[Lent, int]) -> None:
    lent, fd = memory
    os.pwrite(fd, b"\0", 0)
    with mmap.mmap(-1, 1_000_000) as untouched, memoryview(untouched) as view:
        assert lent.lend([view])  # type: ignore[list-item]
        assert lent._mapped is not None


@if_mapped
def test_unused_memory_is_freed_after_its_peer_has_made_it_longer(memory: tuple[Lent, int]) -> None:
    lent, fd = memory
    os.pwrite(fd, b"\0", 0)
    os.ftruncate(fd, 1 << 60)
    assert lent.shrink()
    assert not lent.shrink()
    assert os.fstat(fd).st_blocks * 512 == BEGIN
    assert lent.lend([b"again"])
    assert os.pread(fd, 5, BEGIN) == b"again"
    assert os.fstat(fd).st_blocks * 512 < 500_000, "as much as this message needs"


@pytest.mark.parametrize("is_trusted", [True, False])
def test_only_a_peer_that_is_trusted_has_its_holes_filled(memory: tuple[Lent, int], is_trusted: bool) -> None:
    _, fd = memory
    with mmap.mmap(fd, 0) as theirs:
        theirs.madvise(mmap.MADV_REMOVE)
    borrowed = Borrowed(is_trusted)
    borrowed.use(os.dup(fd))
    assert borrowed.read(BEGIN, 1_000_000) == bytes(1_000_000)
    borrowed.close()
    assert (os.fstat(fd).st_blocks > 0) is (is_trusted and shared_memory.is_mappable)


def test_memory_that_could_become_shorter_is_not_mapped() -> None:
    fd = memfd(BEGIN + 10_000)
    borrowed = Borrowed(is_trusted=True)
    borrowed.use(os.dup(fd))
    assert borrowed.read(BEGIN, 10_000) == bytes(10_000)
    os.ftruncate(fd, BEGIN + 9_000)
    with pytest.raises(RemoteProtocolError, match="ends after 9000 of 10000 bytes"):
        borrowed.read(BEGIN, 10_000)
    borrowed.close()
    os.close(fd)


def test_borrowed_memory_that_grows_is_mapped_anew(memory: tuple[Lent, int]) -> None:
    lent, fd = memory
    borrowed = Borrowed(is_trusted=True)
    borrowed.use(os.dup(fd))
    assert borrowed.read(BEGIN, 1_000_000) == b"x" * 1_000_000
    borrowed.give_back()
    assert lent.lend([b"y" * 5_000_000])
    assert borrowed.read(BEGIN, 5_000_000) == b"y" * 5_000_000
    with pytest.raises(RemoteProtocolError, match="shared memory ends after"):
        borrowed.read(BEGIN, 50_000_000)
    borrowed.close()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"a": b"x" * LARGE_BYTES}, True),
        ({"a": b"x" * (LARGE_BYTES - 1)}, False),
        ({"a": "x" * LARGE_BYTES}, False),
        ({"a": {"b": b"x" * LARGE_BYTES}}, False),
        (b"x" * LARGE_BYTES, False),
        (None, False),
    ],
)
def test_what_is_large(data: Any, expected: bool) -> None:
    assert has_large(data) is expected
