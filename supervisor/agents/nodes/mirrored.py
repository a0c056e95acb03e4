"""Agents, channels and invites that other nodes change, too.

Every node of a network knows all of them. What it changes itself goes to the store, as the whole
value that a change leads to; what other nodes have changed comes back from there (`mirror`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ....ipc.messages import pack, unpack
from ...config import AgentsConfig, GroupConfig
from ..agent import Agent
from ..mirrors import GONE
from ..registry import AgentRegistry, end_polls
from ..rights.invites import Invite
from .parcels import Elsewhere
from .store import AgentStore


class MirroredAgents(AgentRegistry):
    """All agents and channels of a network, as one of its nodes knows them.

    Args:
        node: the name of this node.

    Attributes:
        elsewhere: set before the first agent.
    """

    elsewhere: Elsewhere

    def __init__(
        self,
        node: str,
        config: AgentsConfig,
        groups: dict[str, GroupConfig],
        store: AgentStore,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config, groups, self._keep, now, store.together)
        self.node = node
        self._store = store
        self._early: dict[str, dict[str, None]] = {}  # channels of agents that are not known yet

    # -- own changes

    def _keep(self, kind: str, data: dict[str, Any]) -> None:
        """Tell the store a change, as the whole value that it leads to."""
        if kind == "returned":
            kind, data = "register", self.record_of(self._agents[data["agent_id"]])
        elif kind == "spend_invite":
            data = _row(self._invites.get(data["invite_id"]))
        elif kind == "join":
            channel = data["channel"]
            if len(self._channels[channel]) == 1:
                self._store.record("channel", {"channel": channel, "private": False})
            data = {**data, "private": channel in self.private}
        self._store.record(kind, data)
        if kind == "leave" and data["channel"] not in self._channels:
            self._store.record("remove_channel", {"channel": data["channel"]})

    def _save(self, agent: Agent, packed: bytes) -> None:
        agent.home = self.node
        self._store.record("register", {**self.record_of(agent), "metadata": packed})

    def record_of(self, agent: Agent) -> dict[str, Any]:
        """Return all that the store keeps of an agent."""
        return {
            "agent_id": agent.agent_id,
            "metadata": pack(agent.metadata),
            "group": agent.group,
            "secret_hash": agent.secret_hash,
            "registered_at": agent.registered_at,
            "guest": agent.is_guest,
            "address": agent.address,
            "returned": agent.has_returned,
            "home": agent.home,
        }

    def remove_channel(self, channel: str) -> None:
        for agent_id in self._channels.get(channel, ()):
            self._store.record("leave", {"channel": channel, "agent_id": agent_id})
        super().remove_channel(channel)

    # -- what other nodes have changed

    def mirror(self, kind: str, data: dict[str, Any]) -> None:
        """Apply a change that another node has made. It is kept already."""
        with self.mirrors.together():
            match kind:
                case "register":
                    self._mirror_agent(data)
                case "unregister":
                    self._mirror_end(data["agent_id"])
                case "join":
                    self._mirror_join(data["channel"], data["agent_id"])
                case "leave":
                    self._mirror_leave(data["channel"], data["agent_id"])
                case "private":
                    self.private[data["channel"]] = data["created_by"]
                case "open":
                    self.private.pop(data["channel"], None)
                case "invite":
                    self._invites.put(_invite(data))
                case "revoke_invite":
                    self._invites.revoke(data["invite_id"])
                case _:
                    raise ValueError(f"no change of agents is called {kind!r}")

    def _mirror_agent(self, data: dict[str, Any]) -> None:
        agent_id, present = data["agent_id"], self._agents.get(data["agent_id"])
        if present is not None and present.secret_hash == data["secret_hash"]:
            present.has_returned = data["returned"]
            self._mirror_home(present, data["home"], is_parked=bool(data.get("parked")))
            return
        agent = Agent(
            agent_id, unpack(data["metadata"]), data["group"], data["secret_hash"], data["registered_at"],
            self._now(), time.time(), is_guest=data["guest"], address=data["address"], has_returned=data["returned"],
            home=data["home"],
        )  # fmt: skip
        if present is not None:
            self._follow(agent, present)
        self._enroll(agent)
        if present is not None:
            end_polls(present)
        for channel in self._early.pop(agent_id, ()):
            self._enter(channel, agent_id)

    def _follow(self, agent: Agent, present: Agent) -> None:
        """Let the present owner of an id go on with what waits, if it is the same one with another secret."""
        if agent.registered_at == present.registered_at:
            agent.inbox, agent.subscriptions = present.inbox, present.subscriptions
            agent.dropped, agent.losses, agent.pace = present.dropped, present.losses, present.pace
        else:
            self.unsubscribe(present)
            self.elsewhere.left(present)

    def _mirror_home(self, agent: Agent, home: str | None, *, is_parked: bool) -> None:
        """Note where an agent is at home now.

        Args:
            is_parked: it did not connect there: an event for it came while its home was thought to be gone.
        """
        agent.home = home

    def _mirror_end(self, agent_id: str) -> None:
        self._early.pop(agent_id, None)
        agent = self._drop(agent_id)
        if agent is None:
            return
        self._guests.leave(agent)
        self.unsubscribe(agent)
        for name in list(self._memberships.get(agent_id, ())):
            self._forget(name, agent_id)
        self.mirrors.note(GONE, agent_id)
        end_polls(agent)

    def _mirror_join(self, channel: str, agent_id: str) -> None:
        if agent_id not in self._agents:
            self._early.setdefault(agent_id, {})[channel] = None
        elif not self.is_member(channel, agent_id):
            self._enter(channel, agent_id)

    def _mirror_leave(self, channel: str, agent_id: str) -> None:
        if (early := self._early.get(agent_id)) is not None:
            early.pop(channel, None)
            if not early:
                del self._early[agent_id]
        if self.is_member(channel, agent_id):
            self._forget(channel, agent_id)


def _row(invite: Invite | None) -> dict[str, Any]:
    assert invite is not None
    return {**invite.to_dict(), "secret_hash": invite.secret_hash}


def _invite(data: dict[str, Any]) -> Invite:
    return Invite(
        data["invite_id"], data["secret_hash"], data["agent_group"], data["agent"], data["uses"],
        data["expires_at"], data["created_at"], data["created_by"],
    )  # fmt: skip
