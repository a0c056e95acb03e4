"""The channel over a real socket pair."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest

from modvisor.ipc.channel import Channel
from modvisor.ipc.errors import (
    ChannelBroken,
    ChannelClosed,
    FrameTooLarge,
    ModvisorError,
    RequestFailed,
    Unserializable,
)
from modvisor.ipc.messages import CANCEL, Notification, Request

pytestmark = pytest.mark.anyio


class Peer:
    """One end: answers requests by name, and remembers what it was told."""

    def __init__(self, sock: socket.socket, **caps: Any) -> None:
        self.notes: list[Notification] = []
        self.ended: asyncio.Future[ModvisorError] = asyncio.get_running_loop().create_future()
        self.unanswered: asyncio.Queue[Request] = asyncio.Queue()
        self.channel = Channel(
            sock, on_request=self.take, on_notification=self.notes.append, on_close=self.ended.set_result, **caps
        )

    def take(self, request: Request) -> None:
        match request.method:
            case "echo":
                self.channel.respond(request.id, request.params)
            case "fail":
                self.channel.refuse(request.id, "no_such_mod", "none of that name", {"mod": "x", "message": "hidden"})
            case _:
                self.unanswered.put_nowait(request)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Peer, Peer]]:
    ours, theirs = socket.socketpair()
    ends = Peer(ours), Peer(theirs)
    yield ends
    for end in ends:
        end.channel.close()


async def test_many_requests_at_once_get_their_own_answers(pair: tuple[Peer, Peer]) -> None:
    ours, _ = pair
    answers = await asyncio.gather(*(ours.channel.request("echo", {"n": n}) for n in range(1000)))
    assert [answer["n"] for answer in answers] == list(range(1000))
    assert ours.channel.in_flight == 0


async def test_large_payloads_both_ways_at_once(pair: tuple[Peer, Peer]) -> None:
    blob = os.urandom(16 * 1024 * 1024)
    answers = await asyncio.gather(*(end.channel.request("echo", {"blob": blob}) for end in pair))
    assert all(answer["blob"] == blob for answer in answers)


async def test_a_refusal_is_typed(pair: tuple[Peer, Peer]) -> None:
    with pytest.raises(RequestFailed, match="none of that name") as caught:
        await pair[0].channel.request("fail", {})
    assert caught.value.code == "no_such_mod"
    assert caught.value.details == {"mod": "x"}


async def test_past_the_deadline_the_peer_is_told_and_its_late_answer_is_dropped(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    with pytest.raises(TimeoutError):
        await ours.channel.request("hang", {}, timeout=0.01)
    request = await theirs.unanswered.get()
    await ours.channel.request("echo", {})
    assert theirs.notes == [Notification(CANCEL, {"id": request.id})]
    theirs.channel.respond(request.id, "late")
    assert await ours.channel.request("echo", {"x": 1}) == {"x": 1}
    assert ours.channel.in_flight == 0


async def test_a_cancelled_caller_cancels_at_the_peer(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    call = asyncio.create_task(ours.channel.request("hang", {}))
    request = await theirs.unanswered.get()
    call.cancel()
    await asyncio.wait([call])
    await ours.channel.request("echo", {})
    assert theirs.notes == [Notification(CANCEL, {"id": request.id})]


async def test_the_peer_goes_and_everybody_waiting_hears_it(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    calls = [asyncio.create_task(ours.channel.request("hang", {})) for _ in range(3)]
    for _ in calls:
        await theirs.unanswered.get()
    theirs.channel.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [ChannelBroken] * 3
    assert isinstance(await ours.ended, ChannelBroken)
    with pytest.raises(ChannelBroken):
        await ours.channel.request("echo", {})


async def test_closed_by_us(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    call = asyncio.create_task(ours.channel.request("hang", {}))
    await theirs.unanswered.get()
    ours.channel.close()
    ours.channel.close()
    with pytest.raises(ChannelClosed):
        await call
    assert isinstance(await theirs.ended, ChannelBroken)


async def test_garbage_ends_the_channel_with_a_protocol_error() -> None:
    ours, stranger = socket.socketpair()
    peer = Peer(ours)
    stranger.sendall(struct.pack(">I", 3) + b"\xc1\xc1\xc1")
    reason = await peer.ended
    stranger.close()
    assert isinstance(reason, ChannelBroken)
    assert (reason.code, "broke the protocol" in str(reason)) == ("protocol_error", True)


async def test_over_a_cap_the_caller_gets_a_typed_error_and_the_pipe_stays_in_step() -> None:
    ours, theirs = (Peer(sock, max_frame=10_000) for sock in socket.socketpair())
    with pytest.raises(FrameTooLarge):
        await ours.channel.request("echo", {"blob": b"x" * 10_000})
    with pytest.raises(Unserializable):
        await ours.channel.request("echo", {"x": object()})
    assert await ours.channel.request("echo", {"blob": b"x" * 9_000}) == {"blob": b"x" * 9_000}
    ours.channel.close()
    theirs.channel.close()


async def test_a_peer_that_does_not_read_is_cut_off_before_it_fills_our_memory() -> None:
    ours, stranger = socket.socketpair()
    peer = Peer(ours, max_frame=100_000)
    for _ in range(200):
        peer.channel.notify("note", {"blob": b"x" * 90_000})
    reason = await asyncio.wait_for(peer.ended, 5)
    stranger.close()
    assert "does not read" in str(reason)
    assert peer.channel.buffered == 0


async def test_a_caller_waits_while_the_peer_does_not_read(pair: tuple[Peer, Peer]) -> None:
    ours, stranger = socket.socketpair()
    peer = Peer(ours)
    peer.channel.notify("note", {"blob": b"x" * 3_000_000})
    with pytest.raises(TimeoutError):
        await peer.channel.request("echo", {}, timeout=0.01)
    assert peer.channel.in_flight == 0
    peer.channel.close()
    stranger.close()
