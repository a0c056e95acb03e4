"""Tells a mod which agents register and leave, before it gets their events.

In OpenAgents' network an agent is registered when every mod has handled the notification, so a mod
knows each agent that sends something. Here a notification is a copy that nothing waits for. So the
mod is told by the worker as soon as the mirror changes, which is before any event that follows, and
events of agents wait until it has handled that. What a mod sends meanwhile waits for nothing: it may
be part of the handling. The core's own notification of the same change comes later and is dropped.
That of an agent that registers again, while it is registered, is not in the mirror, and passes.

A mod that is loaded late is told of the agents that have registered before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ....ipc.event import Event
from .mirror import Agent, Mirror

REGISTERED = "system.notification.register_agent"
LEFT = "system.notification.unregister_agent"

PATIENCE = 5.0
"""Seconds that events wait for one telling: a mod that hangs in it still gets its other events."""

LATE = 60.0
"""Seconds that the core's notification of a change may come after the change: a write to the journal
and a queue of copies lie between. One that comes later is of another registration."""

JUST = 1.0
"""The same for an agent that was registered when the mod was loaded: its notification has gone by
then, unless it was registered in that very moment."""

MAX_EXPECTED = 10_000
"""Notifications that may be expected at once. Some never come: a full queue drops copies."""

Tell = Callable[[str, dict[str, Any]], Awaitable[None]]


class Tellings:
    """What one mod was told of agents.

    Args:
        tell: gives the mod a notification: its name and payload. It raises nothing.

    Attributes:
        told: the agents that are registered as far as the mod knows, in the order in which it was
            told.
    """

    def __init__(self, mirror: Mirror, tell: Tell) -> None:
        self.told: dict[str, None] = {}
        self._expected: dict[str, float] = {}  # until when (Unix seconds) the core's notification may come
        self._mirror = mirror
        self._tell = tell
        self._is_telling = False
        self._open: dict[str, asyncio.Task[None]] = {}  # the last telling of each agent that is not handled yet
        self._due: dict[str, float] = {}  # loop time until which events wait for it
        self._last: asyncio.Future[None] | None = None  # done when the event that waits last goes on
        mirror.on_agent, mirror.on_gone = self._registered, self._gone

    def to_state(self) -> dict[str, Any]:
        """Return what the mod's next incarnation must know, as plain data."""
        return {"told": list(self.told), "expected": dict(self._expected)}

    def take_state(self, state: Mapping[str, Any]) -> None:
        """Know what the previous incarnation has told."""
        self.told = dict.fromkeys(state.get("told", ()))
        self._expected = dict(state.get("expected", {}))

    async def begin(self) -> None:
        """Tell what the mod does not know yet, and every change from now on."""
        self._is_telling = True
        for agent_id in [agent_id for agent_id in self.told if agent_id not in self._mirror.agents]:
            self._gone(agent_id)
        for agent in list(self._mirror.agents.values()):
            if agent.agent_id not in self.told:
                self._registered(agent, JUST)
        await self.caught_up()

    def pause(self) -> None:
        """Tell nothing more: another incarnation takes over."""
        self._is_telling = False

    async def caught_up(self) -> None:
        """Wait until the mod has handled what it is being told now. Who came first goes on first."""
        if not self._open and self._last is None:
            return
        before, own = self._last, asyncio.get_running_loop().create_future()
        self._last = own
        try:
            if before is not None:
                await asyncio.wait([before])
            if self._open:
                left = max(self._due.values()) - asyncio.get_running_loop().time()
                await asyncio.wait(list(self._open.values()), timeout=max(0.0, left))
        finally:  # also if the event is cancelled: who waits behind it waits for those before it
            if before is None or before.done():
                self._go_on(own)
            else:
                before.add_done_callback(lambda _before: self._go_on(own))

    def _go_on(self, own: asyncio.Future[None]) -> None:
        own.set_result(None)
        if self._last is own:
            self._last = None

    def is_known(self, event: Event) -> bool:
        """Return whether the mod was told already of what a notification of the core says."""
        if event.event_name not in (REGISTERED, LEFT):
            return False
        until = self._expected.pop(f"{event.event_name} {event.payload.get('agent_id')}", 0.0)
        return event.timestamp <= until

    def _registered(self, agent: Agent, late: float = LATE) -> None:
        if self._is_telling and agent.agent_id not in self.told:
            self.told[agent.agent_id] = None
            payload = {"agent_id": agent.agent_id, "metadata": agent.metadata, "group": agent.group}
            self._begin(REGISTERED, payload, late)

    def _gone(self, agent_id: str) -> None:
        if self._is_telling and agent_id in self.told:
            del self.told[agent_id]
            self._begin(LEFT, {"agent_id": agent_id}, LATE)

    def _begin(self, name: str, payload: dict[str, Any], late: float) -> None:
        loop, agent_id = asyncio.get_running_loop(), payload["agent_id"]
        self._expect(f"{name} {agent_id}", time.time() + late)
        task = loop.create_task(self._give(self._open.get(agent_id), name, payload))
        self._open[agent_id], self._due[agent_id] = task, loop.time() + PATIENCE
        task.add_done_callback(lambda task: self._done(agent_id, task))

    def _expect(self, notification: str, until: float) -> None:
        self._expected.pop(notification, None)
        self._expected[notification] = until
        if len(self._expected) > MAX_EXPECTED:
            del self._expected[next(iter(self._expected))]

    async def _give(self, before: asyncio.Task[None] | None, name: str, payload: dict[str, Any]) -> None:
        if before is not None:
            await asyncio.wait([before])
        await self._tell(name, payload)

    def _done(self, agent_id: str, task: asyncio.Task[None]) -> None:
        if self._open.get(agent_id) is task:
            del self._open[agent_id], self._due[agent_id]
