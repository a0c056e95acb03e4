"""The handlers of one mod: their order, and what becomes of what they return or raise."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from modvisor.mods import BaseMod, Event, EventResponse, Refused, mod_event_handler
from modvisor.mods.handlers import InvalidHandler, collect_handlers
from modvisor.worker.dispatch import HandlerFailed
from modvisor.worker.testing import ModHarness

pytestmark = pytest.mark.anyio


class Base(BaseMod):
    def __init__(self) -> None:
        self.calls: list[str] = []

    @mod_event_handler("*")
    async def everything(self, event: Event) -> None:
        self.calls.append("everything")

    @mod_event_handler("a.b.c")
    def exact(self, event: Event) -> EventResponse | None:
        self.calls.append("exact")
        return None

    @mod_event_handler("a.*")
    @mod_event_handler("z.z")
    async def prefix(self, event: Event) -> EventResponse | None:
        self.calls.append("prefix")
        return EventResponse(True, data=event.payload) if event.payload.get("answer") else None

    @mod_event_handler("*", observe=True)
    async def watch(self, event: Event) -> None:
        self.calls.append("watch")


class Derived(Base):
    @mod_event_handler("a.b.c")
    def exact(self, event: Event) -> EventResponse | None:
        self.calls.append("derived")
        return None


async def test_the_most_specific_is_asked_first_and_an_override_once(tmp_path: Path) -> None:
    async with ModHarness(Derived, storage_path=tmp_path) as harness:
        assert await harness.send("a.b.c") is None
        assert harness.mod.calls == ["derived", "prefix", "everything"]


async def test_the_first_response_ends_the_walk(tmp_path: Path) -> None:
    async with ModHarness(Base, storage_path=tmp_path) as harness:
        response = await harness.ask("a.b.c", {"answer": 1})
        assert response.data == {"answer": 1}
        assert harness.mod.calls == ["exact", "prefix"]


async def test_observers_are_apart(tmp_path: Path) -> None:
    async with ModHarness(Base, storage_path=tmp_path) as harness:
        await harness.observe("q.r")
        assert harness.mod.calls == ["watch"]


async def test_a_changed_event_goes_on_in_place_of_the_original(tmp_path: Path) -> None:
    class Changer(BaseMod):
        @mod_event_handler("a.b")
        async def first(self, event: Event) -> Event:
            event.payload["n"] += 1
            return event

        @mod_event_handler("a.*")
        async def second(self, event: Event) -> EventResponse:
            return EventResponse(True, data=event.payload["n"])

    async with ModHarness(Changer, storage_path=tmp_path) as harness:
        assert (await harness.ask("a.b", {"n": 1})).data == 2


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (ValueError("no"), "ValueError: no"),
        (SystemExit(3), "SystemExit: 3"),
        (MemoryError(), "MemoryError"),
        (StopIteration(), "StopIteration"),
        (TimeoutError(), "TimeoutError"),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
async def test_what_a_handler_raises_is_typed(tmp_path: Path, failure: BaseException, said: str, plain: bool) -> None:
    class Plain(BaseMod):
        @mod_event_handler("a.b")
        def handle(self, event: Event) -> None:
            raise failure

    class Coroutine(BaseMod):
        @mod_event_handler("a.b")
        async def handle(self, event: Event) -> None:
            raise failure

    async with ModHarness(Plain if plain else Coroutine, storage_path=tmp_path) as harness:
        with pytest.raises(HandlerFailed) as caught:
            await harness.send("a.b")
    assert caught.value.details["handler"] == "handle"
    assert said.split(":")[0] in str(caught.value)


async def test_a_refusal_is_an_answer_not_an_error(tmp_path: Path) -> None:
    class Picky(BaseMod):
        @mod_event_handler("a.b")
        async def handle(self, event: Event) -> None:
            raise Refused("title: expected text", field="title")

    async with ModHarness(Picky, storage_path=tmp_path) as harness:
        response = await harness.ask("a.b")
    assert (response.success, response.message) == (False, "title: expected text")
    assert response.data == {"error": "bad_input", "field": "title"}


async def test_a_return_value_that_is_no_answer_is_named(tmp_path: Path) -> None:
    class Odd(BaseMod):
        @mod_event_handler("a.b")
        async def handle(self, event: Event) -> Any:
            return {"success": True}

    async with ModHarness(Odd, storage_path=tmp_path) as harness:
        with pytest.raises(HandlerFailed, match="handler handle returned dict; expected an EventResponse"):
            await harness.send("a.b")


def bad_pattern() -> type[BaseMod]:
    class BadPattern(BaseMod):
        @mod_event_handler("A.b")
        async def handle(self, event: Event) -> None: ...

    return BadPattern


def bad_signature() -> type[BaseMod]:
    class BadSignature(BaseMod):
        @mod_event_handler("a.b")
        async def handle(self) -> None: ...

    return BadSignature


def generator() -> type[BaseMod]:
    class Generator(BaseMod):
        @mod_event_handler("a.b")
        async def handle(self, event: Event) -> Any:
            yield 1

    return Generator


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (bad_pattern, "BadPattern.handle: pattern 'A.b'"),
        (bad_signature, "BadSignature.handle() -> 'None': a handler takes exactly (self, event)"),
        (generator, "Generator.handle is a generator"),
    ],
)
def test_a_wrong_handler_is_named_when_the_mod_is_loaded(make: Any, said: str) -> None:
    with pytest.raises(InvalidHandler) as caught:
        collect_handlers(make()())
    assert said in str(caught.value)


async def test_plain_handlers_run_side_by_side_and_may_ask_the_network(tmp_path: Path) -> None:
    class Threads(BaseMod):
        def initialize(self) -> None:
            import threading

            self.both = threading.Barrier(2, timeout=10)

        @mod_event_handler("a.b")
        def handle(self, event: Event) -> EventResponse:
            self.both.wait()  # passes only if two handlers are here at once
            answer = self.context.run_from_thread(self.context.send_event(Event("x.y")))
            return EventResponse(True, data=answer.success)

    async with ModHarness(Threads, storage_path=tmp_path) as harness:
        answers = await asyncio.gather(harness.ask("a.b"), harness.ask("a.b"))
        assert [answer.data for answer in answers] == [True, True]
        assert [event.event_name for event in harness.sent] == ["x.y", "x.y"]
