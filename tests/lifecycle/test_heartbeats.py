"""Whether the loops of workers turn, asked over real pipes on a virtual clock."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modvisor.ipc import messages
from modvisor.ipc.pipe import Pipe
from modvisor.supervisor.lifecycle.heartbeats import STALL, TOGETHER, Heartbeats
from tests.supervisor.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.anyio

HANG = 10.0


class Worker:
    """Answers pings, or refuses them, or hangs; notes when it was asked and when it was found to hang."""

    def __init__(self, heartbeats: Heartbeats, conduct: str = "answers", **caps: int) -> None:
        ours, theirs = socket.socketpair()
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.conduct = conduct
        self.asked: list[float] = []
        self.cancelled: list[int] = []
        self.missed: list[float] = []
        self.there = Pipe(theirs, on_request=self.take, on_notification=self.note, on_close=lambda _: None)
        self.here = Pipe(
            ours, on_request=lambda _: None, on_notification=lambda _: None, on_close=lambda _: None, **caps
        )
        self.beat = heartbeats.follow(self.here, HANG, lambda: self.missed.append(self.now))

    @property
    def now(self) -> float:
        return self.loop.time() - self.began

    def take(self, request: messages.Request) -> None:
        if request.method == messages.PING:
            self.asked.append(self.now)
        if self.conduct == "answers":
            self.there.respond(request.id, None)
        elif self.conduct == "refuses":
            self.there.refuse(request.id, "unknown", "what is a ping?")

    def note(self, notification: messages.Notification) -> None:
        if notification.method == messages.CANCEL:
            self.cancelled.append(notification.params["id"])

    def close(self) -> None:
        self.beat.stop()
        self.here.close()
        self.there.close()


@contextmanager
def workers(*conducts: str, **caps: int) -> Iterator[list[Worker]]:
    heartbeats = Heartbeats()
    made = [Worker(heartbeats, conduct, **caps) for conduct in conducts]
    yield made
    for worker in made:
        worker.close()


async def test_a_worker_that_answers_is_asked_twice_in_its_hang_timeout() -> None:
    with workers("answers") as [worker]:
        await asyncio.sleep(10 * HANG + 1)
    assert (worker.asked, worker.missed) == ([HANG / 2 * n for n in range(1, 21)], [])


async def test_a_worker_that_is_silent_is_told_of_once() -> None:
    with workers("answers") as [worker]:
        await asyncio.sleep(HANG + 1)
        worker.conduct = "hangs"
        await asyncio.sleep(10 * HANG)
    assert worker.missed == [2.5 * HANG], "asked at 1.5, which it had one hang timeout to answer"


async def test_a_late_answer_is_one() -> None:
    with workers("hangs") as [worker]:
        await asyncio.sleep(0.5 * HANG + 0.9 * HANG)
        worker.conduct = "answers"
        worker.there.respond(0, None)
        await asyncio.sleep(5 * HANG)
    assert worker.missed == []
    assert len(worker.asked) > 8


async def test_a_worker_that_refuses_to_answer_counts_as_one_that_hangs() -> None:
    with workers("refuses") as [worker]:
        await asyncio.sleep(3 * HANG)
    assert worker.missed == [HANG]


async def test_a_worker_that_takes_no_more_requests_counts_as_one_that_hangs() -> None:
    with workers("hangs", max_requests=1) as [worker]:
        worker.here.begin(messages.EVENT, {})
        await asyncio.sleep(3 * HANG)
    assert (worker.asked, worker.missed) == ([], [1.5 * HANG])


async def test_while_our_own_loop_stood_still_nobody_is_blamed() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    with workers("hangs", "hangs") as both:
        loop.call_later(1.4 * HANG, loop._jump, 0.1 * HANG + STALL + 0.1)
        await asyncio.sleep(2 * HANG)
        assert [worker.missed for worker in both] == [[], []]
        await asyncio.sleep(HANG)
        assert [len(worker.missed) for worker in both] == [1, 1], "the next ping counts"


async def test_pings_of_many_workers_go_together_but_never_too_many_at_once() -> None:
    loop = asyncio.get_running_loop()
    heartbeats, made = Heartbeats(), list[Worker]()
    for number in range(4 * TOGETHER):
        loop.call_later(number / (8 * TOGETHER), lambda: made.append(Worker(heartbeats)))
    await asyncio.sleep(1)
    start = loop.time()
    await asyncio.sleep(10 * HANG)
    moments = [worker.began + at for worker in made for at in worker.asked if worker.began + at > start + HANG]
    rounds = {moment: moments.count(moment) for moment in moments}
    pauses = [later - one for worker in made for one, later in zip(worker.asked, worker.asked[1:], strict=False)]
    for worker in made:
        worker.close()
    assert set(rounds.values()) == {TOGETHER}
    assert all(0.4 * HANG <= pause <= 0.5 * HANG + 0.1 for pause in pauses)


async def test_of_a_worker_that_is_let_go_no_timer_and_no_question_is_left() -> None:
    loop = asyncio.get_running_loop()
    with workers(*["hangs"] * 200) as made:
        await asyncio.sleep(0.6 * HANG)
        for worker in made:
            worker.beat.stop()
        await asyncio.sleep(0.01)
        assert [worker.cancelled for worker in made] == [[0]] * len(made)
        timers = [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        assert timers == []


async def test_a_pipe_that_ended_is_not_looked_at_any_more() -> None:
    with workers("answers", "answers") as [gone, other]:
        await asyncio.sleep(HANG)
        gone.here.close()
        await asyncio.sleep(3 * HANG)
        assert gone.beat.is_over
    assert (gone.missed, len(other.asked)) == ([], 7)
