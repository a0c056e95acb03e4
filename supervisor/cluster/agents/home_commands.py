"""Sends a command about an agent's inbox to the node where the agent is at home.

An agent may send such a command at any node, and so may whoever manages agents. Only the home has
the inbox and the subscriptions, and moving the agent would cut the connection that it has there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ....ipc.address import AGENT
from ....ipc.errors import Code, ModvisorError
from ....ipc.event import Event, EventResponse
from ...agents import Agent, SharedAgents
from ...config import ModConfig
from ...events import Sender
from ..link.errors import ClusterError
from ..link.link import Link
from ..link.wire import Reply
from .filed import FiledAnswers

AT_HOME = frozenset({"system.poll_messages", "system.subscribe_events", "system.unsubscribe_events"})

ANSWER = 5.0  # seconds beside those that a poll waits

Commands = Callable[[Event, Sender], Awaitable[EventResponse]]


class HomeCommands:
    """Answers ``system.*`` events here, or has the home of their agent answer them.

    Args:
        commands: answers those that are for this node.
        find_mod: returns the config of a mod by its id.
    """

    def __init__(
        self,
        link: Link,
        agents: SharedAgents,
        commands: Commands,
        find_mod: Callable[[str], ModConfig | None],
    ) -> None:
        self._link, self._agents, self._commands, self._find_mod = link, agents, commands, find_mod
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers = FiledAnswers(link, "command")

    async def open(self) -> None:
        """Answer what other nodes send."""
        await self._link.serve(self._subject(self._link.node), self._asked)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _subject(self, node: str) -> str:
        return self._link.subject("node", node, "command")

    async def __call__(self, event: Event, sender: Sender) -> EventResponse:
        if event.event_name in AT_HOME and (agent := self._subject_of(event)) is not None:
            if (home := agent.home) is not None and home != self._link.node and self._agents.elsewhere.is_there(home):
                return await self._elsewhere(home, event, sender)
            try:
                await self._agents.bring_home(agent)
            except ModvisorError as error:
                return EventResponse.failure(error.code, str(error))
        return await self._commands(event, sender)

    def _subject_of(self, event: Event) -> Agent | None:
        agent_id = event.payload.get("agent_id", event.source_agent)
        return self._agents.get(agent_id.removeprefix(f"{AGENT}:")) if isinstance(agent_id, str) else None

    async def _elsewhere(self, home: str, event: Event, sender: Sender) -> EventResponse:
        wait = event.payload.get("wait", 0)
        timeout = ANSWER + (wait if type(wait) in (int, float) and 0 < wait < 60 else 0)
        row = [
            sender.trusted,
            None if sender.agent is None else sender.agent.agent_id,
            None if sender.mod is None else sender.mod.mod_id,
            sender.address,
        ]
        try:
            said = await self._link.ask(self._subject(home), [event.to_dict(), row], timeout=timeout)
            said = await self._answers.taken(said)
        except (ClusterError, TimeoutError) as error:
            text = f"node {home!r}, where the agent is at home, does not answer ({error or 'timed out'}); try again"
            return EventResponse.failure(Code.TIMEOUT, text)
        return EventResponse.from_dict(said)

    # -- what other nodes send

    def _asked(self, body: list[Any], reply: Reply) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(body, reply))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, body: list[Any], reply: Reply) -> None:
        data, (trusted, agent_id, mod_id, address) = body
        agent = None if agent_id is None else self._agents.get(agent_id)
        mod = None if mod_id is None else self._find_mod(mod_id)
        if (agent_id is not None and agent is None) or (mod_id is not None and mod is None):
            who = f"agent {agent_id!r}" if agent_id is not None else f"mod {mod_id!r}"
            response = EventResponse.failure(Code.UNAUTHENTICATED, f"{who} is not known at node {self._link.node!r}")
        else:
            response = await self._commands(Event.from_dict(data), Sender(trusted, agent, mod, address))
        try:
            await self._answers.give(reply, response.to_dict())
        except ClusterError as error:
            reply(EventResponse.failure(error.code, f"the answer cannot be sent: {error}").to_dict())
