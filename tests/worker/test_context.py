"""What a mod's questions become on the pipe."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from modvisor.ipc.errors import RequestFailed
from modvisor.ipc.event import Event
from modvisor.ipc.messages import CHECKPOINT, QUERY, SEND_EVENT
from modvisor.ipc.pipe import Pipe
from modvisor.mods.context import ModContext
from modvisor.worker.context import MAX_SENDING, WorkerContext, current_cause

pytestmark = pytest.mark.anyio


class FakePipe:
    """Records requests; answers each with `answer`, or raises it."""

    def __init__(self, answer: Any = None) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer = answer
        self.go = asyncio.Event()
        self.go.set()

    async def request(self, method: str, params: dict[str, Any]) -> Any:
        self.asked.append((method, params))
        await self.go.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    ask = request


def context_on(pipe: FakePipe) -> WorkerContext:
    return WorkerContext(cast(Pipe, pipe), "wiki", "net", Path("/srv/wiki"), version="1.2", replica=1)


async def test_it_is_what_a_mod_expects() -> None:
    context: ModContext = context_on(FakePipe())
    assert (context.mod_id, context.network_name, context.replica) == ("wiki", "net", 1)
    assert (context.storage_path, context.log.name) == (Path("/srv/wiki"), "wiki")


async def test_an_event_goes_with_its_cause_and_its_timeout() -> None:
    pipe = FakePipe({"success": True, "data": 7})
    current_cause.set(42)
    response = await context_on(pipe).send_event(Event("wiki.page.created"), timeout=2.5)
    assert (response.success, response.data) == (True, 7)
    ((method, params),) = pipe.asked
    assert (method, params["cause"]) == (SEND_EVENT, 42)
    assert (params["event"]["event_name"], params["event"]["timeout"]) == ("wiki.page.created", 2.5)


async def test_a_refusal_of_the_core_is_a_failed_response() -> None:
    pipe = FakePipe(RequestFailed("not yours", code="forbidden", mod="wiki"))
    response = await context_on(pipe).send_event(Event("wiki.page.created"))
    assert (response.error, response.message, response.data["mod"]) == ("forbidden", "not yours", "wiki")


@pytest.mark.parametrize("mod", ["tasks", "mod:tasks"])
async def test_a_request_goes_to_one_mod(mod: str) -> None:
    pipe = FakePipe({"success": True})
    await context_on(pipe).request(mod, "tasks.list", {"n": 1})
    event = pipe.asked[0][1]["event"]
    assert (event["destination_id"], event["payload"]) == ("mod:tasks", {"n": 1})


async def test_a_checkpoint_carries_the_version_and_none_is_not_sent() -> None:
    pipe = FakePipe()
    await context_on(pipe).checkpoint(None)
    assert pipe.asked == []
    await context_on(pipe).checkpoint({"pages": 3})
    assert pipe.asked == [(CHECKPOINT, {"state": {"pages": 3}, "version": "1.2"})]


async def test_questions_about_the_network() -> None:
    pipe = FakePipe([])
    context = context_on(pipe)
    for ask in (context.agents(), context.channels(), context.channel_members("general"), context.groups()):
        await ask
    assert [method for method, _ in pipe.asked] == [QUERY] * 4
    assert [params for _, params in pipe.asked] == [
        {"what": "agents"},
        {"what": "channels"},
        {"what": "members", "channel": "general"},
        {"what": "groups"},
    ]


async def test_a_loop_that_emits_without_end_waits_in_the_worker() -> None:
    pipe = FakePipe({"success": True})
    pipe.go.clear()
    context = context_on(pipe)
    sending = [asyncio.create_task(context.send_event(Event("a.b"))) for _ in range(MAX_SENDING + 10)]
    while len(pipe.asked) < MAX_SENDING:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(pipe.asked) == MAX_SENDING
    pipe.go.set()
    await asyncio.gather(*sending)
    assert len(pipe.asked) == MAX_SENDING + 10


async def test_a_thread_waits_for_a_coroutine_and_the_loop_must_not() -> None:
    context = context_on(FakePipe(["general"]))
    assert await asyncio.to_thread(lambda: context.run_from_thread(context.channels())) == ["general"]
    with pytest.raises(RuntimeError, match="use 'await' there instead"):
        context.run_from_thread(context.channels())


@pytest.mark.parametrize(
    ("what", "call"),
    [
        ("send_event", lambda context: context.send_event(Event("wiki.page.created"))),
        ("send_event", lambda context: context.request("wiki", "wiki.page.created")),
        ("checkpoint", lambda context: context.checkpoint({})),
        ("agents", lambda context: context.agents()),
        ("channels", lambda context: context.channels()),
        ("channel_members", lambda context: context.channel_members("general")),
        ("groups", lambda context: context.groups()),
    ],
)
async def test_another_loop_may_not_touch_the_pipe_and_is_told_what_to_use(
    what: str, call: Callable[[WorkerContext], Coroutine[Any, Any, Any]]
) -> None:
    pipe = FakePipe()
    context = context_on(pipe)
    with pytest.raises(RuntimeError, match=rf"^{what}\(\) .*self.context.run_from_thread\(self.context.{what}\("):
        await asyncio.to_thread(lambda: asyncio.run(call(context)))
    assert pipe.asked == []
