"""Channel calls and events on their way to the core, in the order in which the mod made them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from ....ipc.errors import ModvisorError, RequestFailed
from ....ipc.event import Event, EventResponse
from ....ipc.messages import CHANNEL
from ....ipc.pipe import Pipe
from ....mods.context import ModContext
from .channels import CLOSE, Call

AT_ONCE = 200
"""Channel calls in flight. The core refuses a worker with more than 1,000 open requests."""

SETTLING = 2.0
"""Seconds that the last calls of a mod that ends may take. Each takes a write to the journal."""


class Requests:
    """Sends the calls of one mod.

    The core makes them in the order in which they arrive, so none is waited for. An event that the
    mod sends after a call must arrive after it: it waits until the call has left.

    Args:
        answered: called with each call that the core has made or refused.
    """

    def __init__(self, pipe: Pipe, context: ModContext, answered: Callable[[Call], None]) -> None:
        self._pipe = pipe
        self._context = context
        self._answered = answered
        self._waiting: deque[Call] = deque()
        self._open: set[asyncio.Task[None]] = set()
        self._sent = asyncio.Event()  # set while nothing waits
        self._sent.set()

    def send(self, call: Call) -> None:
        """Send a channel call as soon as there is room for it."""
        if len(self._open) >= AT_ONCE or self._waiting:
            self._waiting.append(call)
            self._sent.clear()
        else:
            self._begin(call)

    async def send_event(self, event: Event) -> EventResponse:
        """Send an event behind the calls that were made before it."""
        await self._sent.wait()
        return await self._context.send_event(event)

    async def settled(self) -> None:
        """Wait until the core has answered every call, or for `SETTLING` seconds."""
        deadline = asyncio.get_running_loop().time() + SETTLING
        while self._open and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._open, timeout=left)

    def _begin(self, call: Call) -> None:
        params: dict[str, Any] = {"do": call.do, "channel": call.channel}
        if call.agent_id is not None:
            params["agent_id"] = call.agent_id
        try:
            request_id, future = self._pipe.begin(CHANNEL, params)
        except ModvisorError as error:
            return self._refused(call, error)
        task = asyncio.get_running_loop().create_task(self._finish(call, request_id, future))
        self._open.add(task)
        task.add_done_callback(self._done)
        return None

    async def _finish(self, call: Call, request_id: int, future: asyncio.Future[Any]) -> None:
        try:
            await self._pipe.finish(request_id, future)
        except ModvisorError as error:
            return self._refused(call, error)
        return self._answered(call)

    def _refused(self, call: Call, error: ModvisorError) -> None:
        self._answered(call)
        if isinstance(error, RequestFailed):  # else the pipe has ended, and so does the mod
            what = f"channel {call.channel}" if call.do == CLOSE else f"{call.agent_id} in channel {call.channel}"
            self._context.log.warning("the network refused to %s %s: %s", call.do, what, error)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        while self._waiting and len(self._open) < AT_ONCE:
            self._begin(self._waiting.popleft())
        if not self._waiting:
            self._sent.set()
