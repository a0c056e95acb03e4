"""`NetworkLink`: have the network deliver messages, and keep its channels like ours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ... import Code, Event, EventResponse, ModContext, ModvisorError

TIMEOUT = 10.0  # seconds that a sender waits to learn how many agents a message reached
_EXPECTED = frozenset({Code.NO_SUCH_AGENT, Code.NO_SUCH_CHANNEL})  # not a fault: an agent is away


class NetworkLink:
    """Talks to the network for the mod. Logs failures instead of raising them."""

    def __init__(self, context: ModContext) -> None:
        self._context = context

    async def add_members(self, memberships: Iterable[tuple[str, str]]) -> None:
        """Add agents to the network's channels, given as pairs of channel and agent id."""
        for channel, agent_id in memberships:
            await self._command("system.add_channel_member", channel, agent_id)

    async def remove_member(self, channel: str, agent_id: str) -> None:
        await self._command("system.remove_channel_member", channel, agent_id)

    async def registered(self) -> set[str]:
        """Return the ids of the registered agents; none if the network does not answer."""
        try:
            return {agent["agent_id"] for agent in await self._context.agents()}
        except (ModvisorError, OSError) as error:
            self._context.log.warning("could not ask the network for its registered agents: %s", error)
            return set()

    async def deliver(self, event: Event) -> dict[str, Any]:
        """Send a message.

        Return ``{"delivered": agents reached, "delivery_error": code or None}``.
        """
        answer = await self._send(event)
        data = answer.data if isinstance(answer.data, dict) else {}
        delivered = data.get("delivered", 0)
        return {
            "delivered": delivered if type(delivered) is int else 0,
            "delivery_error": None if answer.success else str(answer.error or Code.INTERNAL),
        }

    async def _command(self, name: str, channel: str, agent_id: str) -> None:
        payload = {"channel_id": channel, "agent_id": agent_id}
        await self._send(Event(name, destination_id="system:system", payload=payload))

    async def _send(self, event: Event) -> EventResponse:
        try:
            answer = await self._context.send_event(event, timeout=TIMEOUT)
        except (ModvisorError, OSError) as error:
            code = error.code if isinstance(error, ModvisorError) else Code.INTERNAL
            answer = EventResponse.failure(code, str(error))
        if not answer.success and answer.error not in _EXPECTED:
            self._context.log.warning("%s failed: %s", event.event_name, answer.message)
        return answer


def to_others(name: str, message: dict[str, Any], members: list[str], author: str) -> Event | None:
    """Return the event that carries ``message`` to all members except ``author``, if there are any.

    The event's source is this mod, so the network would deliver it to the author too. The list of
    allowed agents prevents that.
    """
    if message["channel"] is None:
        (other,) = [agent_id for agent_id in message["between"] if agent_id != author]
        if ":" in other:  # a mod or the system, which have no inbox
            return None
        return Event(name, destination_id=f"agent:{other}", payload=message)
    others = [agent_id for agent_id in members if agent_id != author]
    if not others:
        return None
    return Event(
        name,
        destination_id=f"channel:{message['channel']}",
        payload=message,
        visibility="restricted",
        allowed_agents=others,
    )
