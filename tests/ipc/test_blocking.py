"""Requests that are waited for without the event loop. The peer is in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from modvisor.ipc.blocking import request_now
from modvisor.ipc.errors import PipeBroken, PipeClosed, RequestFailed
from modvisor.ipc.messages import CANCEL
from tests.ipc.peer import Peer

pytestmark = pytest.mark.anyio


class Elsewhere:
    """A peer in another thread."""

    def __init__(self, sock: socket.socket) -> None:
        self.peer: Peer
        self.loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(sock,))
        self._thread.start()
        self._started.wait()

    def _run(self, sock: socket.socket) -> None:
        async def make() -> None:
            self.peer = Peer(sock)
            self._started.set()

        self.loop.run_until_complete(make())
        self.loop.run_forever()
        self.peer.pipe.close()
        self.loop.close()

    def do(self, coroutine):
        """Run a coroutine there, and wait for its result here."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=20)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, Elsewhere]]:
    ours, theirs = socket.socketpair()
    there = Elsewhere(theirs)
    yield ours, there
    there.close()


async def test_the_answer_comes_without_the_loop(sockets: tuple[socket.socket, Elsewhere]) -> None:
    here = Peer(sockets[0])
    assert request_now(here.pipe, "echo", {"n": 1}, 20) == {"n": 1}
    blob = os.urandom(8 * 1024 * 1024)  # more than the socket takes at once, both ways
    assert request_now(here.pipe, "echo", {"blob": blob}, 20) == {"blob": blob}
    assert await here.pipe.request("echo", {"n": 2}) == {"n": 2}
    assert here.pipe.in_flight == 0
    here.pipe.close()


async def test_what_comes_meanwhile_is_handled_as_usual(sockets: tuple[socket.socket, Elsewhere]) -> None:
    ours, there = sockets
    here = Peer(ours)
    waiting = [asyncio.ensure_future(here.pipe.request("echo", {"n": n})) for n in range(100)]
    await asyncio.sleep(0)

    async def note() -> None:
        for n in range(40):
            there.peer.pipe.notify("note", {"n": n})
        await there.peer.pipe.flush()

    there.do(note())
    assert request_now(here.pipe, "echo", {"n": "now"}, 20) == {"n": "now"}
    assert [note.params["n"] for note in here.notes] == list(range(40))
    assert [answer["n"] for answer in await asyncio.gather(*waiting)] == list(range(100))
    here.pipe.close()


async def test_a_refusal_is_raised_as_usual(sockets: tuple[socket.socket, Elsewhere]) -> None:
    here = Peer(sockets[0])
    with pytest.raises(RequestFailed, match="none of that name") as caught:
        request_now(here.pipe, "fail", {}, 20)
    assert (caught.value.code, caught.value.details) == ("no_such_mod", {"mod": "x"})
    here.pipe.close()


async def test_past_the_deadline_the_peer_is_told(sockets: tuple[socket.socket, Elsewhere]) -> None:
    ours, there = sockets
    here = Peer(ours)
    with pytest.raises(TimeoutError, match=r"no answer to hang within 0\.01 s"):
        request_now(here.pipe, "hang", {}, 0.01)
    assert request_now(here.pipe, "echo", {}, 20) == {}
    assert [note.method for note in there.peer.notes] == [CANCEL]

    async def answer_late() -> None:
        there.peer.pipe.respond((await there.peer.unanswered.get()).id, "late")

    there.do(answer_late())
    assert request_now(here.pipe, "echo", {"n": 1}, 20) == {"n": 1}
    assert here.pipe.in_flight == 0
    here.pipe.close()


async def test_a_peer_that_goes_away_is_noticed_at_once(sockets: tuple[socket.socket, Elsewhere]) -> None:
    ours, there = sockets
    here = Peer(ours)

    async def leave() -> None:
        await there.peer.unanswered.get()
        there.peer.pipe.close()

    leaving = asyncio.run_coroutine_threadsafe(leave(), there.loop)
    with pytest.raises(PipeBroken):
        request_now(here.pipe, "hang", {}, 20)
    leaving.result(timeout=20)
    with pytest.raises((PipeBroken, PipeClosed)):
        request_now(here.pipe, "echo", {}, 20)
