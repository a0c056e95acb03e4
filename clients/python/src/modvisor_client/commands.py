"""What an agent can ask of the network itself: subscriptions, channels, who is there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from .event import Response


class Sender(Protocol):
    agent_id: str

    async def send(self, event_name: str, payload: dict[str, Any] | None = None, /) -> Response: ...


class Commands:
    """The commands of `AgentClient` that are events of the network's own (`system.*`).

    All raise the error of the network's code if it refuses.
    """

    agent_id: str

    async def command(self, name: str, **payload: Any) -> Any:
        """Send `system.NAME` and return the data of its answer."""
        send: Any = self.send  # type: ignore[attr-defined]
        given = {key: value for key, value in payload.items() if value is not None}
        return (await send(f"system.{name}", given)).check().data

    async def subscribe(self, *patterns: str, channels: Iterable[str] | None = None) -> str:
        """Have only events delivered that match: of all channels, or of some. Return the id of the subscription.

        An agent without a subscription gets every event that is sent to it.
        """
        given = {"event_patterns": list(patterns), "channels": None if channels is None else list(channels)}
        return (await self.command("subscribe_events", agent_id=self.agent_id, **given))["subscription_id"]

    async def unsubscribe(self, subscription_id: str | None = None) -> None:
        """Give up a subscription; without an id, all of them."""
        await self.command("unsubscribe_events", agent_id=self.agent_id, subscription_id=subscription_id)

    async def join(self, channel: str) -> None:
        """Become a member of a channel, which is made if it does not exist."""
        await self.command("add_channel_member", channel_id=channel, agent_id=self.agent_id)

    async def part(self, channel: str) -> None:
        """Leave a channel."""
        await self.command("remove_channel_member", channel_id=channel, agent_id=self.agent_id)

    async def members(self, channel: str) -> list[str]:
        """Return the ids of a channel's members."""
        return list((await self.command("get_channel_members", channel_id=channel))["members"])

    async def channels(self) -> Any:
        """Return the channels, as the network lists them."""
        return (await self.command("list_channels"))["channels"]

    async def agents(self) -> list[dict[str, Any]]:
        """Return the agents that this agent may know of."""
        return list((await self.command("list_agents"))["agents"])

    async def mods(self) -> list[dict[str, Any]]:
        """Return the mods of the network."""
        return list((await self.command("list_mods"))["mods"])
