"""The pipe over a real socket pair."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import msgpack
import pytest

from modvisor.ipc import pipe as pipe_module
from modvisor.ipc.errors import (
    FrameTooLarge,
    ModvisorError,
    PipeBroken,
    PipeClosed,
    RequestFailed,
    Unserializable,
)
from modvisor.ipc.messages import CANCEL, Notification, Request
from modvisor.ipc.pipe import FEW, LAST_MESSAGES, PAUSE, TURN, Pipe, _Allowance
from tests.conftest import until

pytestmark = pytest.mark.anyio


class Peer:
    """One end: answers requests by name, and remembers what it was told."""

    def __init__(self, sock: socket.socket, **caps: Any) -> None:
        self.notes: list[Notification] = []
        self.ended: asyncio.Future[ModvisorError] = asyncio.get_running_loop().create_future()
        self.unanswered: asyncio.Queue[Request] = asyncio.Queue()
        self.pipe = Pipe(
            sock, on_request=self.take, on_notification=self.notes.append, on_close=self.ended.set_result, **caps
        )

    def take(self, request: Request) -> None:
        match request.method:
            case "echo":
                self.pipe.respond(request.id, request.params)
            case "fail":
                self.pipe.refuse(request.id, "no_such_mod", "none of that name", {"mod": "x", "message": "hidden"})
            case _:
                self.unanswered.put_nowait(request)


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


async def test_what_a_turn_sends_to_a_busy_peer_leaves_together() -> None:
    """And at once what is sent to one that has nothing else to do."""
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


async def test_garbage_ends_the_channel_with_a_protocol_error() -> None:
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


async def test_a_caller_waits_while_the_peer_does_not_read(pair: tuple[Peer, Peer]) -> None:
    ours, stranger = socket.socketpair()
    peer = Peer(ours)
    peer.pipe.notify("note", {"blob": b"x" * 3_000_000})
    with pytest.raises(TimeoutError):
        await peer.pipe.request("echo", {}, timeout=0.01)
    assert peer.pipe.in_flight == 0
    peer.pipe.close()
    stranger.close()


# -- fairness


def framed(*values: Any) -> bytes:
    bodies = [msgpack.packb(value) for value in values]
    return b"".join(struct.pack(">I", len(body)) + body for body in bodies)


class Turns:
    """Counts the turns of the loop."""

    def __init__(self) -> None:
        self.number = 0
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self.number += 1
        self._handle = self._loop.call_soon(self._tick)

    def stop(self) -> None:
        self._handle.cancel()


@pytest.fixture
async def turns() -> AsyncIterator[Turns]:
    counter = Turns()
    yield counter
    counter.stop()


class Target:
    """A pipe whose peer is a bare socket, with the turn in which each message came."""

    def __init__(self, turns: Turns) -> None:
        ours, self.stranger = socket.socketpair()
        self.stranger.setblocking(False)
        self.fd = ours.fileno()
        self.came: list[tuple[int, Any]] = []
        self.reasons: list[ModvisorError] = []
        self._turns = turns
        self.pipe = Pipe(ours, on_request=self._take, on_notification=self._note, on_close=self.reasons.append)

    def _take(self, request: Request) -> None:
        self.came.append((self._turns.number, request.id))

    def _note(self, note: Notification) -> None:
        self.came.append((self._turns.number, (note.params or {}).get("n")))

    @property
    def per_turn(self) -> Counter[int]:
        return Counter(turn for turn, _ in self.came)

    @property
    def numbers(self) -> list[Any]:
        return [number for _, number in self.came]

    @property
    def is_watched(self) -> bool:
        """Whether the loop watches the descriptor, for whoever has it now; asking ends that."""
        return asyncio.get_running_loop().remove_reader(self.fd)


@pytest.fixture
async def target(turns: Turns) -> AsyncIterator[Target]:
    made = Target(turns)
    yield made
    made.pipe.close()
    made.stranger.close()


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is allowed of what is of no use."""
    monkeypatch.setattr(pipe_module, "BURST", 40.0)
    monkeypatch.setattr(pipe_module, "RATE", 1000.0)


async def test_many_requests_at_once_are_taken_in_several_turns(target: Target) -> None:
    target.stranger.send(framed(*([0, n, "event", None] for n in range(500))))
    await until(lambda: len(target.came) == 500)
    assert target.numbers == list(range(500))
    assert max(target.per_turn.values()) <= 2 * TURN
    assert len(target.per_turn) >= 500 / (2 * TURN)


async def test_answers_are_not_counted(target: Target, turns: Turns) -> None:
    calls = [target.pipe.begin("event") for _ in range(300)]
    target.stranger.send(framed(*([1, number, None, number] for number, _ in calls)))
    answered = []
    for number, future in calls:
        future.add_done_callback(lambda _done: answered.append(turns.number))
        assert (await target.pipe.finish(number, future)).result == number
    assert len(set(answered)) == 1


async def test_what_is_left_for_the_next_turn_comes_before_what_is_read_then(target: Target) -> None:
    chance, sent = random.Random(5), 0
    while sent < 3000:
        count = chance.randrange(1, 120)
        frames = framed(*([0, n, "event", None] if n % 3 else [2, "note", {"n": n}] for n in range(sent, sent + count)))
        cut = chance.randrange(len(frames))
        target.stranger.send(frames[:cut])
        await asyncio.sleep(0)
        target.stranger.send(frames[cut:])
        sent += count
        for number in target.numbers:
            with suppress(ModvisorError):
                target.pipe.respond(number, None)
        with suppress(BlockingIOError):
            target.stranger.recv(1 << 20)
    await until(lambda: len(target.came) == sent)
    assert target.numbers == list(range(sent))
    assert target.pipe.closed is None


def test_what_is_of_no_use_is_read_at_its_rate() -> None:
    allowance = _Allowance(0.0)
    assert not any(allowance.spend(0.0, 1.0) for _ in range(int(pipe_module.BURST)))
    assert allowance.spend(0.0, 1.0)
    now, spent = 0.0, 0.0
    while now < 100.0:
        spent += 2.0
        now += PAUSE if allowance.spend(now, 2.0) else 0.0
    assert spent == pytest.approx(100.0 * pipe_module.RATE, rel=0.02)
    assert not any(allowance.spend(now + second, pipe_module.RATE * 0.9) for second in range(1, 1000))


async def test_a_flood_of_notifications_makes_pauses_and_loses_nothing(scarce: None, target: Target) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    number, future = target.pipe.begin("ping")
    target.stranger.send(framed(*([2, "cancel", {"n": n}] for n in range(300)), [1, number, None, "here"]))
    assert (await target.pipe.finish(number, future)).result == "here"
    assert target.numbers == list(range(300))
    assert max(target.per_turn.values()) <= 2 * TURN
    assert (loop.time() - began) * 1000.0 + 40.0 + TURN > 300, "it was slowed down"


async def test_refused_requests_are_charged_as_well(scarce: None, target: Target) -> None:
    taken: list[int] = []

    def refuse(request: Request) -> None:
        taken.append(request.id)
        target.pipe.charge(2.0)
        target.pipe.refuse(request.id, "busy", "no")

    target.pipe._on_request = refuse
    loop = asyncio.get_running_loop()
    began = loop.time()
    target.stranger.send(framed(*([0, n, "event", None] for n in range(100))))
    await until(lambda: len(taken) == 100)
    assert taken == list(range(100))
    assert (loop.time() - began) * 1000.0 + 40.0 + 2 * TURN > 200


# -- the end, at any moment


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("end", ["close", "close_after_reading"])
async def test_the_end_with_messages_left(
    end: str, paused: bool, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    if paused:
        monkeypatch.setattr(target.pipe._allowance, "_left", -1000.0)
        monkeypatch.setattr(pipe_module, "PAUSE", 60.0)
    call = target.pipe.begin("event")
    target.stranger.send(framed(*([2, "note", {"n": n}] for n in range(200)), [1, call[0], None, 1]))
    while not target.came:
        await asyncio.sleep(0)
    assert target.pipe._reading is not paused
    getattr(target.pipe, end)()
    if end == "close":
        assert 0 < len(target.came) < 200
        with pytest.raises(PipeClosed):
            await target.pipe.finish(*call)
    else:
        assert target.numbers == list(range(200))
        assert (await target.pipe.finish(*call)).result == 1
    assert isinstance(target.reasons.pop(), PipeClosed)
    assert not target.is_watched
    taken = len(target.came)
    getattr(target.pipe, end)()
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(target.came) == taken
    assert target.reasons == []


@pytest.mark.parametrize("at", [1, TURN - 1, TURN, TURN + 1, 3 * TURN])
@pytest.mark.parametrize("end", ["close", "close_after_reading"])
async def test_a_handler_that_ends_the_channel(end: str, at: int, target: Target) -> None:
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    came: list[int] = []

    def take(request: Request) -> None:
        came.append(request.id)
        if len(came) == at:
            getattr(target.pipe, end)()

    target.pipe._on_request = take
    target.stranger.send(framed(*([0, n, "event", None] for n in range(100))))
    await until(lambda: len(target.reasons) == 1)
    for _ in range(5):
        await asyncio.sleep(0)
    assert came == list(range(at if end == "close" else 100))
    assert (complaints, len(target.reasons)) == ([], 1)
    assert not target.is_watched


async def test_an_end_in_the_midst_of_a_broken_protocol(target: Target) -> None:
    target.stranger.send(framed(*([0, n, "event", None] for n in range(50)), [3], [0, 51, "event", None]))
    target.pipe.close_after_reading()
    assert target.numbers == list(range(50))
    (reason,) = target.reasons
    assert (type(reason), reason.code) == (PipeBroken, "protocol_error")
    assert not target.is_watched


@pytest.mark.parametrize("message", [[2, "x", None], [0, 1, "event", {"blob": b"x" * 5000}]])
async def test_the_last_reading_ends_though_somebody_goes_on_writing(message: Any, target: Target) -> None:
    """A process that outlived the peer holds its end of the pipe, and fills it for ever."""
    target.stranger.setblocking(True)
    data, ended = framed(message), threading.Event()
    if message[0] == 0:
        target.pipe._on_request = lambda request: target.pipe.respond(request.id, None)

    def fill() -> None:
        with suppress(OSError):
            while True:
                target.stranger.sendall(data)
        ended.set()

    thread = threading.Thread(target=fill, daemon=True)
    thread.start()
    await until(lambda: len(target.came) > 0 or target.pipe._connection.frames._start > 0)
    before = len(target.came)
    target.pipe.close_after_reading()
    assert len(target.came) - before <= LAST_MESSAGES
    assert await asyncio.to_thread(ended.wait, 10)
    thread.join()
    assert len(target.reasons) == 1
