"""Dead letters: kept, shown, replayed once at a time, removed. Journal, mods and gateway are fakes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor.calls import Journey
from modvisor.supervisor.config import Redaction
from modvisor.supervisor.events import DeadLetters, LetterLedger
from modvisor.supervisor.journal.deaths import Record
from modvisor.supervisor.journal.records import DeadLetter, StorageFull

pytestmark = pytest.mark.anyio


class FakeJournal:
    def __init__(self) -> None:
        self.letters: dict[int, DeadLetter] = {}
        self.charged: list[tuple[int, int]] = []
        self.buried: list[int | None] = []
        self.forgotten: list[dict[str, Any]] = []
        self.failure: ModvisorError | None = None

    def charge(self, seq: int, attempt: int) -> None:
        self.charged.append((seq, attempt))

    async def bury(self, letter: DeadLetter, *, seq: int | None) -> int:
        if self.failure is not None:
            raise self.failure
        self.buried.append(seq)
        self.letters[len(self.letters) + 1] = letter
        return len(self.letters)

    async def dead_letter(self, letter_id: int) -> DeadLetter | None:
        return self.letters.get(letter_id)

    async def forget_dead_letters(self, **which: Any) -> int:
        self.forgotten.append(which)
        return 1


class Store:
    """The dead letters of mod ``work``; ``answer`` is what a replay comes to."""

    def __init__(self) -> None:
        self.journal = FakeJournal()
        self.loaded = True
        self.replayed: list[Event] = []
        self.answer: asyncio.Future[EventResponse] = asyncio.get_running_loop().create_future()
        journal: Any = self.journal
        mods: Any = SimpleNamespace(
            find=lambda mod_id: mod_id if self.loaded and mod_id == "work" else None, redaction=Redaction()
        )
        self.ledger = LetterLedger(journal, journal)
        self.letters = DeadLetters(journal, mods, self)  # type: ignore[arg-type]

    async def replay(self, event: Event, mod: Any) -> EventResponse:
        assert mod == "work"
        self.replayed.append(event)
        return await self.answer

    async def bury(self, **more: Any) -> int | None:
        return await self.ledger.bury(journey(**more), "work", "it died", None)


@pytest.fixture
async def store() -> Store:
    return Store()


def journey(seq: int | None = None, attempt: int = 3) -> Journey:
    journey = Journey(Event("work.do", "agent:alice", payload={"n": 1}, event_id="first"), 0.0)
    journey.seq, journey.attempt = seq, attempt
    return journey


async def test_only_a_durable_event_is_charged_on_disk(store: Store) -> None:
    store.ledger.charge(journey())
    store.ledger.charge(journey(seq=7, attempt=2))
    assert store.journal.charged == [(7, Record(attempt=2))]


async def test_a_dead_letter_holds_the_event_and_why_it_was_given_up(store: Store) -> None:
    letter_id = await store.bury(seq=7)
    assert (letter_id, store.journal.buried) == (1, [7])
    shown = await store.letters.show(1)
    assert (shown["mod_id"], shown["attempts"], shown["reason"]) == ("work", 3, "it died")
    assert (shown["code"], shown["report"]) == (Code.DEAD_LETTERED, None)
    assert Event.from_dict(shown["event"]).payload == {"n": 1}


async def test_an_event_that_cannot_be_kept_is_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.journal.failure = StorageFull("the disk is full")
    assert await store.bury() is None
    assert "event first of mod work was given up and could not be kept" in caplog.text


@pytest.mark.parametrize(
    ("answer", "goes"),
    [
        (EventResponse(True, "yes"), True),
        (EventResponse.failure(Code.DEAD_LETTERED, "it died again"), True),  # a new letter holds it
        (EventResponse.failure(Code.TIMEOUT, "too slow"), False),
    ],
)
async def test_a_replayed_letter_goes_unless_the_event_still_is_unanswered(
    store: Store, answer: EventResponse, goes: bool
) -> None:
    await store.bury()
    store.answer.set_result(answer)
    assert await store.letters.replay(1) is answer
    assert [event.event_id for event in store.replayed] == ["first"]
    assert store.journal.forgotten == ([{"letter_id": 1}] if goes else [])


async def test_a_letter_is_replayed_once_at_a_time(store: Store) -> None:
    await store.bury()
    first = asyncio.create_task(store.letters.replay(1))
    await asyncio.sleep(0)
    with pytest.raises(ModvisorError, match="dead letter 1 is being replayed already") as caught:
        await store.letters.replay(1)
    assert caught.value.code == Code.CONFLICT
    store.answer.set_result(EventResponse.failure(Code.TIMEOUT, "too slow"))
    await first
    await store.letters.replay(1)
    assert len(store.replayed) == 2


async def test_a_letter_of_a_mod_that_is_not_loaded_waits(store: Store) -> None:
    await store.bury()
    store.loaded = False
    response = await store.letters.replay(1)
    assert (response.error, response.data["mod"]) == (Code.NO_SUCH_MOD, "work")
    assert response.message == "dead letter 1 is for mod work, which is not loaded; load it first"
    assert (store.replayed, store.journal.forgotten) == ([], [])


@pytest.mark.parametrize("what", ["show", "replay"])
async def test_a_letter_that_does_not_exist(store: Store, what: str) -> None:
    with pytest.raises(ModvisorError, match="there is no dead letter 5") as caught:
        await getattr(store.letters, what)(5)
    assert caught.value.code == Code.NOT_FOUND


async def test_letters_are_removed_by_number_mod_or_age(store: Store) -> None:
    assert await store.letters.purge(mod_id="work", older_than=60.0) == 1
    assert store.journal.forgotten == [{"letter_id": None, "mod_id": "work", "older_than": 60.0}]
