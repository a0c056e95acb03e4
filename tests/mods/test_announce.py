"""`modvisor.mods.workspace.announce`: announcements never trouble the request that caused them."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from modvisor.mods import Event, EventResponse
from modvisor.mods.workspace.announce import MAX_PENDING, Announcer
from modvisor.worker.testing import RecordingContext

pytestmark = pytest.mark.anyio


class SlowContext(RecordingContext):
    """Answers when it is told."""

    def __init__(self, path: Path) -> None:
        super().__init__("mod", path)
        self.answered = asyncio.Event()

    async def send_event(self, event: Event, timeout: float | None = None) -> EventResponse:
        answer = await super().send_event(event, timeout)
        await self.answered.wait()
        return answer


async def test_events_leave_at_once_in_order_and_answers_are_not_waited_for(tmp_path: Path) -> None:
    context = SlowContext(tmp_path)
    announcer = Announcer(context, "channel:news")
    for number in range(3):
        await announcer.send("a.b", {"number": number}, only=["bob"] if number else None)
        assert context.sent[-1].payload == {"number": number}
    assert {event.destination_id for event in context.sent} == {"channel:news"}
    assert [event.allowed_agents for event in context.sent] == [None, ["bob"], ["bob"]]
    context.answered.set()
    await announcer.close()


async def test_a_network_that_does_not_answer_costs_a_bounded_number_of_tasks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = SlowContext(tmp_path)
    announcer = Announcer(context)
    for _ in range(MAX_PENDING + 12):
        await announcer.send("a.b", {})
    assert len(context.sent) == MAX_PENDING
    assert [record.message.split()[0] for record in caplog.records] == ["1", "10"]
    context.answered.set()
    await announcer.close()


async def test_closing_gives_up_in_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modvisor.mods.workspace.announce.CLOSE_SECONDS", 0.01)
    announcer = Announcer(SlowContext(tmp_path))
    await announcer.send("a.b", {})
    await announcer.close()
    assert "a.b was not announced: the mod was shut down first" in caplog.text


@pytest.mark.parametrize(
    ("answer", "logged"),
    [
        (EventResponse(True), ""),
        (EventResponse.failure("unknown_event", "nobody handles it"), ""),
        (EventResponse.failure("no_such_channel", "no channel news"), "a.b reached no agent: no channel news"),
        (ConnectionError("gone"), "a.b was not announced: gone"),
    ],
)
async def test_failures_are_logged(
    answer: EventResponse | Exception, logged: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def respond(_event: Event) -> EventResponse:
        if isinstance(answer, Exception):
            raise answer
        return answer

    context = RecordingContext("mod", tmp_path)
    context.responder = respond
    announcer = Announcer(context)
    with caplog.at_level(logging.WARNING):
        await announcer.send("a.b", {})
        await announcer.close()
    assert logged in caplog.text
    assert bool(caplog.text) == bool(logged)
