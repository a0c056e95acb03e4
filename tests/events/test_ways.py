"""The recorder of ways: when it is attached, what it keeps, how it samples, and the traffic that it counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from modvisor.ipc.errors import Code, ModvisorError
from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor.calls import Journey
from modvisor.supervisor.events.ways import SAMPLED, Ways

pytestmark = pytest.mark.anyio


class Gateway:
    def __init__(self) -> None:
        self.taps: list[Any] = []
        self.ways: Ways | None = None


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def made(gateway: Gateway, most: int = 100) -> Ways:
    return Ways(gateway, lambda: most)


def event(event_id: str, source: str = "agent:alice", **more: Any) -> Event:
    return Event("test.ping", source, event_id=event_id, **more)


def entry(mod_id: str, answer: Any) -> Any:
    async def ask(journey: Journey) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return SimpleNamespace(mod_id=mod_id, target=SimpleNamespace(ask=ask))


async def test_the_recorder_is_attached_while_somebody_watches(gateway: Gateway) -> None:
    ways = made(gateway)
    gateway.taps.append(print)
    with ways.watched(all_events=False):
        with ways.watched(all_events=True):
            assert (gateway.ways, gateway.taps) == (ways, [ways.finished, print])
        assert gateway.ways is ways
    assert (gateway.ways, gateway.taps) == (None, [print])


async def test_each_mod_that_is_asked_is_a_step_with_its_outcome(gateway: Gateway) -> None:
    ways, asked = made(gateway), event("e1")
    journey = Journey(asked, 0.0)
    with ways.watched(all_events=True):
        assert await ways.asked(entry("first", None), journey) is None
        for code in (Code.TIMEOUT, Code.MOD_AWAY, Code.HANDLER_ERROR):
            with pytest.raises(ModvisorError):
                await ways.asked(entry("broken", ModvisorError("no", code=code)), journey)
        response = EventResponse(True, "pong")
        assert await ways.asked(entry("last", response), journey) is response
        ways.finished((asked, response))
    way = ways.way("e1")
    assert way is not None
    assert [step["outcome"] for step in way["steps"]] == ["passed", "timeout", "away", "failed", "answered"]
    assert (way["event"]["success"], way["event"]["by"]) == (True, "last")
    assert ways.by("e1") == "last"


@pytest.mark.parametrize(
    ("response", "is_problem", "outcome"),
    [
        (EventResponse(True, "pong"), False, "answered"),
        (EventResponse(False, "no", {"error": "no_such_page"}), False, "answered"),
        (EventResponse(True, "took it", {"delivered": 0, "mod": "wiki"}), False, "passed"),
        (EventResponse(False, "late", {"error": "timeout", "mod": "wiki"}), True, "timeout"),
        (EventResponse(False, "later", {"error": "pending", "mod": "wiki"}), True, "accepted"),
    ],
)
async def test_an_event_for_one_mod_has_one_step(
    gateway: Gateway, response: EventResponse, is_problem: bool, outcome: str
) -> None:
    ways, wiki = made(gateway), SimpleNamespace(mod_id="wiki")
    ways.addressed(wiki, event("e1"), response, is_problem=is_problem)  # type: ignore[arg-type]
    way = ways.way("e1")
    assert way is not None
    assert [(step["mod"], step["outcome"]) for step in way["steps"]] == [("wiki", outcome)]


async def test_the_newest_ways_are_kept_with_what_they_caused(gateway: Gateway) -> None:
    ways = made(gateway, most=2)
    ways.finished((event("child", "mod:wiki", cause="e2", via="mod:wiki"), EventResponse(True)))
    for number in (1, 2, 3):
        ways.finished((event(f"e{number}"), EventResponse(True)))
    assert ways.way("e1") is None
    assert ways.way("child") is None
    second = ways.way("e2")
    assert second is not None
    assert second["caused"] == ["child"]


async def test_traffic_is_counted_between_groups_of_agents_and_mods(gateway: Gateway) -> None:
    ways, wiki = made(gateway), SimpleNamespace(mod_id="wiki")
    with ways.watched(all_events=False):
        for number in range(4):
            sent = event(f"e{number}", source_agent_group="staff" if number else None)
            failed = EventResponse(False, "no", {"error": "handler_error"})
            response = failed if number == 3 else EventResponse(True)
            ways.addressed(wiki, sent, response, is_problem=number == 3)  # type: ignore[arg-type]
            ways.finished((sent, response))
        told = event("e9", "mod:wiki", via="mod:wiki", destination_id="group:staff")
        ways.finished((told, EventResponse(True, data={"delivered": 3})))
        edges = ways.take_edges(2.0, 5)
        assert sorted(edges) == [
            ["agents", "mod:wiki", 0.5, 0.0], ["agents:staff", "mod:wiki", 1.5, 0.5], ["mod:wiki", "agents:staff", 0.5, 0.0],
        ]  # fmt: skip
        assert ways.take_edges(1.0, 0) == []


async def test_an_answer_that_says_no_counts_as_failed(gateway: Gateway) -> None:
    ways, wiki = made(gateway), SimpleNamespace(mod_id="wiki")
    with ways.watched(all_events=False):
        for number, response in enumerate((EventResponse(True), EventResponse(False, "no"))):
            sent = event(f"e{number}")
            ways.addressed(wiki, sent, response, is_problem=False)  # type: ignore[arg-type]
            ways.finished((sent, response))
        assert ways.take_edges(1.0, 2) == [["agents", "mod:wiki", 2.0, 1.0]]


async def test_with_many_events_one_in_so_many_is_recorded_and_counts_as_so_many(gateway: Gateway) -> None:
    ways, wiki = made(gateway, most=10_000), SimpleNamespace(mod_id="wiki")

    def events(count: int, name: str) -> None:
        for number in range(count):
            sent = event(f"{name}{number}")
            ways.addressed(wiki, sent, EventResponse(True), is_problem=False)  # type: ignore[arg-type]
            ways.finished((sent, EventResponse(True)))

    with ways.watched(all_events=False):
        ways.take_edges(1.0, 10 * SAMPLED)
        assert ways.every == 10
        events(5000, "a")
        [[_, _, rate, _]] = ways.take_edges(1.0, 5000)
        assert 3500 < rate < 6500  # 500 +- 22 of 5000, ten times
        assert rate % 10 == 0
        with ways.watched(all_events=True):
            assert ways.every == 1
            ways.take_edges(1.0, 10 * SAMPLED)
            events(20, "b")
            assert ways.take_edges(1.0, 20)[0][2] == 20
