"""The context that records."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from modvisor.ipc.errors import Unserializable
from modvisor.ipc.event import Event, EventResponse
from modvisor.mods.context import ModContext
from modvisor.worker.testing import RecordingContext

pytestmark = pytest.mark.anyio


async def test_it_records_what_a_mod_sends_and_saves(tmp_path: Path) -> None:
    context = RecordingContext("wiki", tmp_path)
    expected: ModContext = context
    context.responder = lambda event: EventResponse(event.event_name == "tasks.list")
    assert (await expected.request("tasks", "tasks.list")).success
    assert not (await expected.send_event(Event("wiki.page.created"))).success
    assert [(event.source_id, event.destination_id) for event in context.sent] == [
        ("mod:wiki", "mod:tasks"),
        ("mod:wiki", None),
    ]
    await expected.checkpoint(None)
    await expected.checkpoint({"pages": (1, 2)})
    assert context.checkpoints == [{"pages": [1, 2]}], "as it comes back over the pipe"


async def test_what_could_not_cross_the_pipe_fails_here_too(tmp_path: Path) -> None:
    context = RecordingContext("wiki", tmp_path)
    with pytest.raises(Unserializable):
        await context.send_event(Event("wiki.page.created", payload={"odd": object()}))
    with pytest.raises(Unserializable):
        await context.checkpoint({1, 2})
    assert (context.sent, context.checkpoints) == ([], [])


async def test_the_loop_must_not_wait_for_itself(tmp_path: Path) -> None:
    context = RecordingContext("wiki", tmp_path)
    assert await asyncio.to_thread(lambda: context.run_from_thread(context.channels())) == []
    with pytest.raises(RuntimeError, match="use 'await' there instead"):
        context.run_from_thread(context.channels())
