"""The events that a durable mod accepts: on disk first, in order, answered whoever waits. Caller and journal are fakes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor.calls import DurableEvents, Journey, Unanswered, Unbegun
from modvisor.supervisor.config import LimitsConfig, ModConfig
from modvisor.supervisor.journal.deaths import Record
from modvisor.supervisor.journal.records import DurableEvent, StorageFull

pytestmark = pytest.mark.anyio

AWAY = ModvisorError("mod work is quarantined", code=Code.MOD_AWAY)


class FakeCaller:
    """Hands each event to the test, which answers it."""

    def __init__(self) -> None:
        self.mod_id = "work"
        self.config = ModConfig("./work", "work", limits=LimitsConfig(queue=2, concurrency=1))
        self.away: ModvisorError | None = None
        self.asked: list[tuple[Any, int]] = []
        self.answers: dict[Any, asyncio.Future[Any]] = {}
        self.journeys: dict[Any, Journey] = {}

    def takes(self, journey: Journey) -> bool:
        return True

    def is_exempt(self, journey: Journey) -> bool:
        return journey.parent is not None

    def unbegun(self) -> Unbegun:
        assert self.away is not None
        return Unbegun.of(self.away, self)

    def overloaded(self) -> Unanswered:
        return Unanswered("mod work is overloaded", code=Code.OVERLOADED)

    async def ask(self, journey: Journey, attempt: int) -> Any:
        n = journey.event.payload["n"]
        self.asked.append((n, attempt))
        self.journeys[n] = journey
        self.answers[n] = asyncio.get_running_loop().create_future()
        answer = await self.answers[n]
        if isinstance(answer, Exception):
            raise answer
        return answer


class FakeJournal:
    def __init__(self) -> None:
        self.kept: list[DurableEvent] = []
        self.answers: list[int] = []
        self.failure: ModvisorError | None = None
        self._numbers = 100

    async def accept(self, mod_id: str, event: Event, owner: str | None = None) -> int:
        if self.failure is not None:
            raise self.failure
        self._numbers += 1
        return self._numbers

    async def pending(self, mod_id: str, after: int, limit: int) -> list[DurableEvent]:
        return [kept for kept in self.kept if kept.seq > after][:limit]

    def answered(self, seq: int, answer: bytes | None = None) -> None:
        self.answers.append(seq)


class Durable:
    def __init__(self, tasks: Any) -> None:
        self.caller, self.journal = FakeCaller(), FakeJournal()
        self.late: list[tuple[Any, Any]] = []
        self.asking: list[asyncio.Task[Any]] = []
        caller: Any = self.caller
        journal: Any = self.journal
        self.events = DurableEvents(caller, journal, tasks, 30.0, self._late)

    async def _late(self, journey: Journey, mod_id: str, outcome: Any) -> None:
        self.late.append((journey.event.payload["n"], outcome))

    def ask(self, n: int, deadline: float = math.inf, parent: Journey | None = None) -> asyncio.Task[Any]:
        self.asking.append(asyncio.create_task(self.events.ask(journey_of(n, deadline, parent))))
        return self.asking[-1]

    async def answer(self, n: int, outcome: Any) -> None:
        self.caller.answers[n].set_result(outcome)
        await settle()


@pytest.fixture
async def durable() -> AsyncIterator[Durable]:
    async with anyio.create_task_group() as tasks:
        durable = Durable(tasks)
        yield durable
        for task in durable.asking:
            task.cancel()
        tasks.cancel_scope.cancel()


def journey_of(n: int, deadline: float = math.inf, parent: Journey | None = None) -> Journey:
    return Journey(Event("work.do", "agent:alice", event_id=f"event-{n}", payload={"n": n}), deadline, parent)


def kept(n: int, attempt: int = 1) -> DurableEvent:
    return DurableEvent(n, "work", journey_of(n).event, attempt, 0.0, record=Record(attempt))


def yes(n: int) -> EventResponse:
    return EventResponse(True, "yes", n)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_event_is_accepted_then_asked_about_then_forgotten(durable: Durable) -> None:
    await durable.events.resume()
    task = durable.ask(1)
    await settle()
    assert (durable.caller.asked, len(durable.events)) == ([(1, 1)], 1)
    await durable.answer(1, yes(1))
    assert ((await task).data, durable.journal.answers, len(durable.events)) == (1, [101], 0)
    assert durable.late == []


async def test_an_event_that_the_journal_cannot_take_is_not_accepted(durable: Durable) -> None:
    await durable.events.resume()
    durable.journal.failure = StorageFull("the disk is full")
    with pytest.raises(Unanswered, match="mod work cannot accept the event: the disk is full") as caught:
        await durable.ask(1)
    assert (caught.value.code, durable.caller.asked, len(durable.events)) == (Code.STORAGE_FULL, [], 0)


async def test_the_events_of_the_journal_go_first_in_order(durable: Durable) -> None:
    newer = durable.ask(9)
    await settle()
    assert durable.caller.asked == []
    durable.journal.kept = [kept(1), kept(2, attempt=2)]
    await durable.events.resume()
    await settle()
    assert durable.caller.asked == [(1, 1), (2, 2), (9, 1)]
    await durable.answer(9, yes(9))
    assert (await newer).data == 9
    await durable.answer(1, yes(1))
    assert [n for n, _ in durable.late] == [1], "its sender was gone with the last run"


async def test_a_consequence_of_an_event_in_flight_does_not_wait_for_the_journal(durable: Durable) -> None:
    durable.ask(9, parent=journey_of(1))
    await settle()
    assert durable.caller.asked == [(9, 1)]


async def test_a_sender_that_waits_no_longer_gets_the_answer_late(durable: Durable) -> None:
    await durable.events.resume()
    task = durable.ask(1, deadline=asyncio.get_running_loop().time())
    with pytest.raises(Unanswered, match="its answer will come to the sender's inbox") as caught:
        await task
    assert caught.value.code == Code.PENDING
    await settle()
    await durable.answer(1, yes(1))
    assert [(n, outcome.data) for n, outcome in durable.late] == [(1, 1)]


async def test_a_duplicate_joins_the_event_that_is_under_way(durable: Durable) -> None:
    await durable.events.resume()
    tasks = [durable.ask(1), durable.ask(1)]
    await settle()
    await durable.answer(1, yes(1))
    assert [answer.data for answer in await asyncio.gather(*tasks)] == [1, 1]
    assert durable.caller.asked == [(1, 1)]


async def test_an_event_of_a_new_owner_does_not_join_that_of_the_former_one(durable: Durable) -> None:
    await durable.events.resume()
    journeys = [journey_of(1), journey_of(1)]
    journeys[0].owner, journeys[1].owner = "agent:alice 1.0", "agent:alice 2.0"
    durable.asking += [asyncio.create_task(durable.events.ask(journey)) for journey in journeys]
    await settle()
    assert durable.caller.asked == [(1, 1), (1, 1)]


async def test_a_retry_joins_an_event_that_the_journal_kept(durable: Durable) -> None:
    durable.journal.kept = [replace(kept(1), owner="agent:alice 1.0"), replace(kept(2), owner="agent:alice")]
    await durable.events.resume()
    for n in (1, 2):  # the second one as a version kept it that did not tell owners apart
        journey = journey_of(n)
        journey.owner = "agent:alice 1.0"
        durable.asking.append(asyncio.create_task(durable.events.ask(journey)))
    await settle()
    assert durable.caller.asked == [(1, 1), (2, 1)]


async def test_a_mod_that_is_away_accepts_nothing(durable: Durable) -> None:
    durable.caller.away = AWAY
    with pytest.raises(Unanswered) as caught:
        await durable.ask(1)
    assert caught.value.code == Code.MOD_AWAY


async def test_at_most_so_many_events_are_under_way(durable: Durable) -> None:
    await durable.events.resume()
    for n in range(3):
        durable.ask(n)
    await settle()
    with pytest.raises(Unanswered) as caught:
        await durable.ask(3)
    assert caught.value.code == Code.OVERLOADED


async def test_a_source_whose_events_fill_a_durable_mod_leaves_room_for_others(durable: Durable) -> None:
    await durable.events.resume()
    most = durable.caller.config.limits.queue + durable.caller.config.limits.concurrency
    for n in range(most):
        durable.ask(n)
    await settle()
    with pytest.raises(Unanswered) as caught:
        await durable.ask(most)
    assert caught.value.code == Code.OVERLOADED
    other = Journey(Event("work.do", "mod:other", event_id="other", payload={"n": -1}), math.inf)
    durable.asking.append(asyncio.create_task(durable.events.ask(other)))
    await settle()
    assert durable.caller.asked[-1] == (-1, 1)
    await durable.answer(-1, yes(-1))
    assert durable.events._held_by == {"agent:alice": most}


async def test_an_event_stays_accepted_when_its_mod_goes_away(durable: Durable) -> None:
    await durable.events.resume()
    task = durable.ask(1)
    await settle()
    durable.caller.away = AWAY
    durable.events.pause()
    await durable.answer(1, Unanswered(str(AWAY), code=AWAY.code))
    with pytest.raises(Unanswered, match="has accepted the event and will handle it when it is back") as caught:
        await task
    assert (caught.value.code, durable.journal.answers, durable.late) == (Code.PENDING, [], [])


@pytest.mark.parametrize(("delivery", "is_kept"), [("at_least_once", True), ("at_most_once", False)])
async def test_an_event_that_was_begun_stays_accepted_only_if_it_may_be_repeated(
    durable: Durable, delivery: str, is_kept: bool
) -> None:
    await durable.events.resume()
    durable.caller.config = replace(durable.caller.config, delivery=delivery)
    journey = journey_of(1)
    task = asyncio.create_task(durable.events.ask(journey))
    await settle()
    durable.caller.away = AWAY
    durable.caller.journeys[1].attempt += 1  # its worker died while it handled the event
    await durable.answer(1, Unanswered("mod work ended", code=Code.MOD_CRASHED))
    with pytest.raises(Unanswered) as caught:
        await task
    assert caught.value.code == (Code.PENDING if is_kept else Code.MOD_CRASHED)
    assert durable.journal.answers == ([] if is_kept else [101])


async def test_events_that_are_held_back_are_told_that_the_mod_went_away(durable: Durable) -> None:
    task = durable.ask(1)
    await settle()
    durable.caller.away = AWAY
    durable.events.pause()
    with pytest.raises(Unanswered) as caught:
        await task
    assert (caught.value.code, durable.caller.asked, durable.journal.answers) == (Code.PENDING, [], [])


async def test_a_buried_event_was_taken_out_of_the_journal_by_its_burial(durable: Durable) -> None:
    await durable.events.resume()
    task = durable.ask(1)
    await settle()
    await durable.answer(1, Unanswered("it was given up", code=Code.DEAD_LETTERED, dead_letter=4))
    with pytest.raises(Unanswered) as caught:
        await task
    assert (caught.value.details, durable.journal.answers) == ({"dead_letter": 4}, [])


async def test_a_failure_of_the_handler_is_an_answer(durable: Durable) -> None:
    await durable.events.resume()
    task = durable.ask(1)
    await settle()
    await durable.answer(1, Unanswered("a bug", code=Code.HANDLER_ERROR))
    with pytest.raises(Unanswered):
        await task
    assert durable.journal.answers == [101]
