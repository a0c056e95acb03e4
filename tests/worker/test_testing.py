"""The context that records."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from modvisor.ipc.errors import InvalidEvent, Unserializable
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


async def test_its_files_are_kept_in_memory_under_the_names_that_a_network_takes(tmp_path: Path) -> None:
    context = RecordingContext("wiki", tmp_path)
    await context.files.put("pages/home", b"1")
    await context.files.put("pages/home", bytearray(b"2"))
    context.files.kept["other"] = b"3"
    assert (await context.files.list(), await context.files.list("pages/")) == (["other", "pages/home"], ["pages/home"])
    assert await context.files.get("pages/home") == b"2"
    assert (await context.files.drop("other"), await context.files.drop("other")) == (True, False)
    assert await context.files.get("other") is None
    with pytest.raises(InvalidEvent, match="must be text that can be printed"):
        await context.files.put("a\nb", b"")
    with pytest.raises(TypeError, match=r"context\.files\.put\('a', …\): expected bytes, got str"):
        await context.files.put("a", "text")  # type: ignore[arg-type]
