"""A mod of OpenAgents is told of each agent once, before the agent's events."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest

from modvisor.ipc.event import Event
from modvisor.worker.hosts.openagents import tellings
from modvisor.worker.hosts.openagents.mirror import Mirror
from modvisor.worker.hosts.openagents.tellings import JUST, LATE, LEFT, REGISTERED, Tellings

pytestmark = pytest.mark.anyio


class Told:
    """A mirror, and what a mod is told of it; the mod takes its time while `go` is cleared."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.go = asyncio.Event()
        self.go.set()
        self.mirror = Mirror(lambda _call: None)
        self.tellings = Tellings(self.mirror, self._tell)

    async def _tell(self, name: str, payload: dict[str, Any]) -> None:
        await self.go.wait()
        self.heard.append((name.rpartition(".")[2], payload["agent_id"]))

    def change(self, *changes: list[Any]) -> None:
        self.mirror.take_changes({"changes": list(changes)})


def note(name: str, agent_id: str, later: float = 0.0) -> Event:
    return Event(name, "system:system", payload={"agent_id": agent_id}, timestamp=time.time() + later)


ALICE, BOB = ["agent", "alice", {}, None], ["agent", "bob", {}, None]


async def test_agents_that_were_there_before_are_told_at_the_beginning() -> None:
    told = Told()
    told.change(ALICE, BOB)
    await asyncio.sleep(0)
    assert told.heard == []
    await told.tellings.begin()
    assert told.heard == [("register_agent", "alice"), ("register_agent", "bob")]


async def test_who_comes_and_goes_is_told_in_order() -> None:
    told = Told()
    await told.tellings.begin()
    told.change(ALICE, ["gone", "alice"], ALICE, BOB)
    await told.tellings.caught_up()
    assert [each for each in told.heard if each[1] == "alice"] == [
        ("register_agent", "alice"),
        ("unregister_agent", "alice"),
        ("register_agent", "alice"),
    ]


async def test_events_wait_until_the_mod_has_handled_what_it_is_told() -> None:
    told = Told()
    await told.tellings.begin()
    told.go.clear()
    told.change(ALICE)
    waiting = asyncio.ensure_future(told.tellings.caught_up())
    await asyncio.sleep(0)
    assert not waiting.done()
    told.go.set()
    await waiting
    assert told.heard == [("register_agent", "alice")]


async def test_events_that_wait_go_on_in_order_and_before_one_that_comes_later() -> None:
    told = Told()
    await told.tellings.begin()
    told.go.clear()
    told.change(ALICE)
    went: list[int] = []

    async def event(number: int) -> None:
        await told.tellings.caught_up()
        went.append(number)

    events = [asyncio.ensure_future(event(number)) for number in range(3)]
    await asyncio.sleep(0)
    events[1].cancel()
    await asyncio.sleep(0)

    def one_comes(_telling: object) -> None:
        """Begin an event right when the telling has ended, and the others were not resumed yet."""
        coroutine = event(3)
        with suppress(StopIteration):
            coroutine.send(None)
        coroutine.close()

    told.tellings._open["alice"].add_done_callback(one_comes)
    told.go.set()
    await asyncio.gather(*events, return_exceptions=True)
    assert went == [0, 2]
    assert told.tellings._last is None


async def test_a_mod_that_hangs_in_it_gets_its_events_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tellings, "PATIENCE", 0.0)
    told = Told()
    told.go.clear()
    told.change(ALICE)
    await told.tellings.begin()
    await told.tellings.caught_up()
    assert told.heard == []
    told.go.set()


async def test_the_notification_of_the_same_change_is_known_and_another_one_is_not() -> None:
    told = Told()
    await told.tellings.begin()
    told.change(ALICE)
    assert told.tellings.is_known(note(REGISTERED, "alice", later=1.0))
    assert not told.tellings.is_known(note(REGISTERED, "alice", later=2.0)), "it registers again"
    told.change(["gone", "alice"])
    assert told.tellings.is_known(note(LEFT, "alice", later=1.0))
    assert not told.tellings.is_known(note(LEFT, "alice", later=1.0))
    assert not told.tellings.is_known(Event("wiki.page.create", "alice"))


async def test_a_notification_that_comes_much_later_is_of_another_registration() -> None:
    told = Told()
    told.change(ALICE)
    await told.tellings.begin()
    told.change(BOB)
    assert not told.tellings.is_known(note(REGISTERED, "alice", later=JUST + 1)), "it was there before"
    assert not told.tellings.is_known(note(REGISTERED, "bob", later=LATE + 1))


async def test_a_successor_tells_only_what_has_changed() -> None:
    first, second = Told(), Told()
    first.change(ALICE, BOB)
    await first.tellings.begin()
    second.tellings.take_state(first.tellings.to_state())
    second.change(BOB, ["agent", "carol", {}, None])
    await second.tellings.begin()
    assert second.heard == [("unregister_agent", "alice"), ("register_agent", "carol")]
    assert second.tellings.is_known(note(REGISTERED, "bob")), "the first one was told, and it may come late"


async def test_what_is_expected_and_never_comes_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tellings, "MAX_EXPECTED", 10)
    told = Told()
    await told.tellings.begin()
    told.change(*(["agent", f"agent{number}", {}, None] for number in range(50)))
    assert len(told.tellings._expected) == 10
    await told.tellings.caught_up()


async def test_nothing_is_told_while_it_is_paused() -> None:
    told = Told()
    await told.tellings.begin()
    told.tellings.pause()
    told.change(ALICE)
    await told.tellings.caught_up()
    assert told.heard == []
