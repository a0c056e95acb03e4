"""The mod of a rehearsal for mods of OpenAgents, see `rehearsal`: it does what most of them do."""

from __future__ import annotations

import asyncio
from typing import Any

from openagents.core.base_mod import BaseMod, mod_event_handler
from openagents.models.event import Event
from openagents.models.event_response import EventResponse


class RehearsedMod(BaseMod):
    """Answers at once, after a wait, or not at all."""

    def __init__(self, mod_name: str) -> None:
        super().__init__(mod_name)
        self.agents: set[str] = set()
        self.seen: dict[str, Any] = {}

    def initialize(self) -> bool:
        self.get_storage_path()
        self._net().event_gateway.create_channel("rehearsal")
        return True

    async def handle_register_agent(self, agent_id: str, metadata: dict[str, Any]) -> None:
        self.agents.add(agent_id)
        self._net().event_gateway.add_channel_member("rehearsal", agent_id)

    @mod_event_handler("rehearsal.event.answer")
    async def answer(self, event: Event) -> EventResponse:
        self.seen[event.event_id] = event.payload
        source = self._net().network_id
        await self.send_event(
            Event(event_name="rehearsal.event.note", source_id=source, destination_id=event.source_id)
        )
        return EventResponse(success=True, message="it was taken", data={"i": event.payload["i"]}, event_name=None)

    @mod_event_handler("rehearsal.event.wait")
    async def wait(self, event: Event) -> EventResponse:
        await asyncio.sleep(0)
        group = self._net().topology.agent_group_membership.get("rehearsal")
        return EventResponse(success=True, message=None, data={"group": group}, event_name=None)

    def _net(self) -> Any:
        return self.network
