"""A worker in this process answers each request; the other end of its pipe is ours."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from modvisor.ipc.event import Event, EventResponse
from modvisor.ipc.messages import CANCEL, EVENT
from modvisor.ipc.pipe import Pipe
from modvisor.ipc.usual import Answered
from modvisor.mods.handlers import Handler
from modvisor.worker.dispatch import Dispatcher
from modvisor.worker.serve import Worker
from tests.conftest import until

pytestmark = pytest.mark.anyio

NO_THREADS = ThreadPoolExecutor(1)  # starts no thread before it is needed


async def test_an_event_that_is_cancelled_before_its_first_line_is_answered_all_the_same() -> None:
    """Otherwise it would stay open at both ends, and 10,000 of them would block the mod."""
    near, far = socket.socketpair()
    notes: list[Any] = []
    pipe = Pipe(near, on_request=print, on_notification=notes.append, on_close=lambda _reason: None)
    worker = Worker(far)
    go = asyncio.Event()

    async def wait(_event: Event) -> EventResponse:
        await go.wait()
        return EventResponse(True)

    worker._life._dispatcher = Dispatcher(
        [Handler("test.wait", "wait", wait, is_async=True, observe=False)], NO_THREADS
    )
    try:
        await until(lambda: bool(notes))
        pipe._corked = True  # all in one write, so in one read
        calls = [pipe.begin(EVENT, {"event": Event("test.wait").to_dict()}) for _ in range(4)]
        for request_id, future in calls[1:]:
            future.cancel()
            pipe.notify(CANCEL, {"id": request_id})
        pipe._uncork()
        await until(lambda: pipe.in_flight == 1)
        go.set()
        assert (await calls[0][1]).result == Answered(EventResponse(True))
    finally:
        await worker.close()
        pipe.close()
