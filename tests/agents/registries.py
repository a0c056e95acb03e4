"""A registry for tests, which notes what it tells the journal."""

from __future__ import annotations

import hashlib
from typing import Any

from modvisor.supervisor import Event
from modvisor.supervisor.agents import AgentRegistry
from modvisor.supervisor.config import AgentsConfig, GroupConfig


def password(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


class Registry(AgentRegistry):
    """A registry with the changes that it told the journal, and with a clock that stands still.

    Attributes:
        time: what the clock shows.
    """

    def __init__(self, groups: dict[str, GroupConfig] | None = None, **config: Any) -> None:
        self.changes: list[tuple[str, dict[str, Any]]] = []
        self.time = 0.0
        super().__init__(
            AgentsConfig(**config),
            groups or {},
            lambda kind, data: self.changes.append((kind, data)),
            lambda: self.time,
        )

    def send(self, to: str, text: Any = "", **fields: Any) -> Any:
        event = Event("chat.message", "agent:sender", to, payload={"text": text}, **fields)
        assert event.destination is not None
        return self.deliver(event, event.destination)

    async def texts(self, agent_id: str) -> list[Any]:
        agent = self.get(agent_id)
        assert agent is not None
        return [event.payload["text"] for event in await self.poll(agent)]
