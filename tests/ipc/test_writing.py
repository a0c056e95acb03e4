"""What is sent together, and a peer that does not read."""

from __future__ import annotations

import asyncio
import socket

import msgpack
import pytest

from modvisor.ipc.pipe import Pipe
from modvisor.ipc.writing import FEW
from tests.ipc.peer import Peer

pytestmark = pytest.mark.anyio


async def test_what_a_turn_sends_to_a_busy_peer_leaves_together() -> None:
    """A message to an idle peer leaves at once."""
    ours, far = socket.socketpair()
    far.setblocking(False)
    pipe = Pipe(ours, on_request=print, on_notification=print, on_close=lambda _reason: None)
    try:
        calls = []
        for n in range(FEW):
            calls.append(pipe.begin("event", n))
            assert far.recv(4096).endswith(msgpack.packb(n))
            await asyncio.sleep(0)
        calls += [pipe.begin("event", "one of many") for _ in range(3)]
        with pytest.raises(BlockingIOError):
            far.recv(4096)
        await asyncio.sleep(0)
        assert far.recv(4096).count(b"one of many") == 3
        for request_id, future in calls:
            future.cancel()
            pipe.give_up(request_id, future)
        await asyncio.sleep(0)
        assert far.recv(4096).count(b"cancel") == len(calls)
    finally:
        pipe.close()
        far.close()


async def test_a_peer_that_does_not_read_is_cut_off_before_it_fills_our_memory() -> None:
    ours, stranger = socket.socketpair()
    peer = Peer(ours, max_frame=100_000)
    for _ in range(200):
        peer.pipe.notify("note", {"blob": b"x" * 90_000})
    reason = await asyncio.wait_for(peer.ended, 5)
    stranger.close()
    assert "does not read its pipe" in str(reason)
    assert reason.code == "protocol_error"
    assert peer.pipe.buffered == 0


async def test_a_caller_waits_while_the_peer_does_not_read() -> None:
    ours, stranger = socket.socketpair()
    peer = Peer(ours)
    peer.pipe.notify("note", {"blob": b"x" * 3_000_000})
    with pytest.raises(TimeoutError):
        await peer.pipe.request("echo", {}, timeout=0.01)
    assert peer.pipe.in_flight == 0
    peer.pipe.close()
    stranger.close()
