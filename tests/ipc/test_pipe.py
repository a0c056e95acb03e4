"""The pipe over a real socket pair: asking, answering, the end."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from modvisor.ipc.errors import FrameTooLarge, PipeBroken, PipeClosed, RequestFailed, Unserializable
from modvisor.ipc.messages import CANCEL, Notification
from tests.ipc.peer import Peer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Peer, Peer]]:
    ours, theirs = socket.socketpair()
    ends = Peer(ours), Peer(theirs)
    yield ends
    for end in ends:
        end.pipe.close()


async def test_many_requests_at_once_get_their_own_answers(pair: tuple[Peer, Peer]) -> None:
    ours, _ = pair
    answers = await asyncio.gather(*(ours.pipe.request("echo", {"n": n}) for n in range(1000)))
    assert [answer["n"] for answer in answers] == list(range(1000))
    assert ours.pipe.in_flight == 0


async def test_large_payloads_both_ways_at_once(pair: tuple[Peer, Peer]) -> None:
    blob = os.urandom(16 * 1024 * 1024)
    answers = await asyncio.gather(*(end.pipe.request("echo", {"blob": blob}) for end in pair))
    assert all(answer["blob"] == blob for answer in answers)


async def test_a_refusal_is_typed(pair: tuple[Peer, Peer]) -> None:
    with pytest.raises(RequestFailed, match="none of that name") as caught:
        await pair[0].pipe.request("fail", {})
    assert caught.value.code == "no_such_mod"
    assert caught.value.details == {"mod": "x"}


async def test_past_the_deadline_the_peer_is_told_and_its_late_answer_is_dropped(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    with pytest.raises(TimeoutError):
        await ours.pipe.request("hang", {}, timeout=0.01)
    request = await theirs.unanswered.get()
    await ours.pipe.request("echo", {})
    assert theirs.notes == [Notification(CANCEL, {"id": request.id})]
    theirs.pipe.respond(request.id, "late")
    assert await ours.pipe.request("echo", {"x": 1}) == {"x": 1}
    assert ours.pipe.in_flight == 0


async def test_a_cancelled_caller_cancels_at_the_peer(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    call = asyncio.create_task(ours.pipe.request("hang", {}))
    request = await theirs.unanswered.get()
    call.cancel()
    await asyncio.wait([call])
    await ours.pipe.request("echo", {})
    assert theirs.notes == [Notification(CANCEL, {"id": request.id})]


async def test_the_peer_goes_and_everybody_waiting_hears_it(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    calls = [asyncio.create_task(ours.pipe.request("hang", {})) for _ in range(3)]
    for _ in calls:
        await theirs.unanswered.get()
    theirs.pipe.close()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [PipeBroken] * 3
    assert isinstance(await ours.ended, PipeBroken)
    with pytest.raises(PipeBroken):
        await ours.pipe.request("echo", {})


async def test_a_request_that_finds_the_peer_gone_was_not_sent() -> None:
    ours, stranger = socket.socketpair()
    peer = Peer(ours)
    stranger.close()
    with pytest.raises(PipeBroken):
        peer.pipe.begin("echo", {})
    assert peer.ended.done()


async def test_closed_by_us(pair: tuple[Peer, Peer]) -> None:
    ours, theirs = pair
    call = asyncio.create_task(ours.pipe.request("hang", {}))
    await theirs.unanswered.get()
    ours.pipe.close()
    ours.pipe.close()
    with pytest.raises(PipeClosed):
        await call
    assert isinstance(await theirs.ended, PipeBroken)


async def test_garbage_ends_the_pipe_with_a_protocol_error() -> None:
    ours, stranger = socket.socketpair()
    peer = Peer(ours)
    stranger.sendall(struct.pack(">I", 3) + b"\xc1\xc1\xc1")
    reason = await peer.ended
    stranger.close()
    assert isinstance(reason, PipeBroken)
    assert (reason.code, "broke the protocol" in str(reason)) == ("protocol_error", True)


async def test_over_a_cap_the_caller_gets_a_typed_error_and_the_pipe_stays_in_step() -> None:
    ours, theirs = (Peer(sock, max_frame=10_000) for sock in socket.socketpair())
    with pytest.raises(FrameTooLarge):
        await ours.pipe.request("echo", {"blob": b"x" * 10_000})
    with pytest.raises(Unserializable):
        await ours.pipe.request("echo", {"x": object()})
    assert await ours.pipe.request("echo", {"blob": b"x" * 9_000}) == {"blob": b"x" * 9_000}
    ours.pipe.close()
    theirs.pipe.close()
