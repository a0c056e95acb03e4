"""Many events in one request: the order of each source, the bound on all, a result for every entry."""

from __future__ import annotations

import asyncio

import pytest

from modvisor.ipc.event import Event, EventResponse
from modvisor.supervisor.http.admin.batch import process_batch

pytestmark = pytest.mark.anyio


class Gate:
    """Processes events; holds each until it is let go, and notes what ran at the same time."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.most = 0
        self.finished: list[str] = []
        self.most_of_one: dict[str | None, int] = {}

    async def __call__(self, event: Event) -> EventResponse:
        self.running.append(event.event_id)
        self.most = max(self.most, len(self.running))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.running.remove(event.event_id)
        self.finished.append(event.event_id)
        if event.event_name == "test.crash":
            raise RuntimeError("inside")
        return EventResponse(True, "done", {"delivered": 2})


def entries(*sources: str) -> list[dict[str, str]]:
    return [
        {"event_name": "test.note", "source_id": source, "event_id": f"{source}-{index}"}
        for index, source in enumerate(sources)
    ]


async def test_sources_are_concurrent_and_each_is_in_order() -> None:
    gate = Gate()
    given = entries(*("a", "b", "a", "c", "a", "b", "agent:a"))
    results = await process_batch(given, gate, concurrency=64, in_order=True)
    assert [result["event_id"] for result in results] == [entry["event_id"] for entry in given]
    assert [result["index"] for result in results] == list(range(7))
    assert all(result["success"] and result["delivered"] == 2 for result in results)
    assert gate.most == 3
    # "agent:a" is "a"
    assert [name for name in gate.finished if name.startswith(("a-", "agent:a"))] == ["a-0", "a-2", "a-4", "agent:a-6"]


async def test_without_order_one_source_is_concurrent_too() -> None:
    gate = Gate()
    await process_batch(entries(*"aaaaa"), gate, concurrency=64, in_order=False)
    assert gate.most == 5


async def test_concurrency_is_bounded() -> None:
    gate = Gate()
    await process_batch(entries(*"abcdefgh"), gate, concurrency=3, in_order=True)
    assert gate.most == 3


async def test_what_is_no_event_is_a_result_with_its_index() -> None:
    given = [
        None,
        {"event_name": "BAD", "event_id": "x"},
        {},
        {"event_name": "test.note", "visibility": []},
        *entries("a"),
    ]
    results = await process_batch(given, Gate(), concurrency=2, in_order=True)
    assert [result["index"] for result in results] == [0, 1, 2, 3, 4]
    assert [result["success"] for result in results] == [False, False, False, False, True]
    assert {result["error"] for result in results[:4]} == {"invalid_event"}
    assert results[1]["event_id"] == "x"


async def test_an_event_that_fails_inside_leaves_the_others_their_results(caplog: pytest.LogCaptureFixture) -> None:
    given = [{"event_name": "test.crash", "source_id": "a"}, *entries("a")]
    results = await process_batch(given, Gate(), concurrency=2, in_order=True)
    assert [result["error"] for result in results] == ["internal_error", None]
    assert "inside" not in results[0]["message"]
    assert "RuntimeError: inside" in caplog.text


async def test_no_events_are_no_results() -> None:
    assert await process_batch([], Gate(), concurrency=4, in_order=True) == []
