"""Fair turns, pauses for a flood of useless messages, and the end at any moment."""

from __future__ import annotations

import asyncio
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

from modvisor.ipc import reading
from modvisor.ipc.errors import ModvisorError, PipeBroken, PipeClosed
from modvisor.ipc.messages import Notification, Request
from modvisor.ipc.pipe import Pipe
from modvisor.ipc.reading import LAST_MESSAGES, PAUSE, TURN, Allowance
from tests.conftest import until

pytestmark = pytest.mark.anyio


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
    """A pipe whose peer is a bare socket. Notes the turn in which each message came."""

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
        """Whether the loop watches the descriptor. Asking stops the watching."""
        return asyncio.get_running_loop().remove_reader(self.fd)


@pytest.fixture
async def target(turns: Turns) -> AsyncIterator[Target]:
    made = Target(turns)
    yield made
    made.pipe.close()
    made.stranger.close()


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow few useless messages."""
    monkeypatch.setattr(reading, "BURST", 40.0)
    monkeypatch.setattr(reading, "RATE", 1000.0)


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
    allowance = Allowance(0.0)
    assert not any(allowance.spend(0.0, 1.0) for _ in range(int(reading.BURST)))
    assert allowance.spend(0.0, 1.0)
    now, spent = 0.0, 0.0
    while now < 100.0:
        spent += 2.0
        now += PAUSE if allowance.spend(now, 2.0) else 0.0
    assert spent == pytest.approx(100.0 * reading.RATE, rel=0.02)
    assert not any(allowance.spend(now + second, reading.RATE * 0.9) for second in range(1, 1000))


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
        monkeypatch.setattr(reading, "PAUSE", 60.0)
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
async def test_a_handler_that_ends_the_pipe(end: str, at: int, target: Target) -> None:
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
    """A process that outlived the peer holds its end of the pipe, and fills it without end."""
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


class Panic(BaseException):
    """What a library of another language raises: no Exception."""


@pytest.mark.parametrize("error", [ValueError, Panic])
async def test_a_handler_that_raises_takes_no_other_message_with_it(turns: Turns, error: type[BaseException]) -> None:
    """A handler must not raise. If one does, the loop reports it, and every other message is handled."""
    target = Target(turns)
    reported: list[BaseException] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reported.append(context["exception"]))
    note = target.pipe._on_notification

    def note_or_raise(notification: Notification) -> None:
        note(notification)
        if notification.params["n"] % 7 == 0:
            raise error

    target.pipe._on_notification = note_or_raise
    try:
        target.stranger.send(framed(*([2, "note", {"n": n}] for n in range(100))))
        await until(lambda: len(target.came) == 100)
        assert target.numbers == list(range(100))
        assert len(reported) == 15
        target.stranger.send(framed([2, "note", {"n": 101}]))
        await until(lambda: target.numbers[-1] == 101)
        assert target.reasons == []
    finally:
        loop.set_exception_handler(None)
        target.pipe.close()
        target.stranger.close()


async def test_a_handler_that_runs_the_loop_inside_the_loop_takes_no_message_with_it(turns: Turns) -> None:
    """The inner loop handles what was read already, then reads on; the outer one goes on with what is left."""
    target = Target(turns)
    loop = asyncio.get_running_loop()
    note, depth = target.pipe._on_notification, 0

    def read_inside(notification: Notification) -> None:
        nonlocal depth
        note(notification)
        if notification.params["n"] in (3, 40) and depth == 0:
            depth += 1
            target.stranger.send(framed(*([2, "note", {"n": n}] for n in range(60, 80)), b"")[:-3])
            for _ in range(3):
                target.pipe._readable()
            target.stranger.send(framed(b"")[-3:] + framed(*([2, "note", {"n": n}] for n in range(80, 90))))

    target.pipe._on_notification = read_inside
    try:
        target.stranger.send(framed(*([2, "note", {"n": n}] for n in range(60))))
        await until(lambda: len(target.came) >= 80 or bool(target.reasons))
        assert sorted(target.numbers)[:80] == list(range(80))
        assert loop.is_running()
    finally:
        target.pipe.close()
        target.stranger.close()
