"""What can be asked of a running network about its agents: register, invite, kick, who is one."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from typing import Any

from ..ipc.address import AGENT, BROADCAST, Address, check_agent_id
from ..ipc.errors import Code, ModvisorError
from ..ipc.event import Event, EventResponse
from .agents import Manager, known_by, known_to
from .audit import Actor
from .audited import Audited, not_running
from .fleet import agent_directory

DAY = 86400.0


class AgentOperations(Audited):
    """The requests about agents that a network takes; see `Operations`."""

    async def register_agent(
        self, agent_id: str, metadata: dict[str, Any] | None = None, *, group: str | None = None
    ) -> EventResponse:
        """Register an agent from inside.

        ``data``: agent_id, secret, assigned_group, network_name, network_id.
        """
        try:
            return await self.add_agent(agent_id, metadata or {}, group=group, trusted=True)
        except ModvisorError as error:
            return EventResponse.failure(error.code, str(error))

    async def unregister_agent(self, agent_id: str) -> EventResponse:
        """Forget an agent."""
        if self._parts is None:
            return not_running()
        try:
            return await self.remove_agent(agent_id, "unregistered")
        except ModvisorError as error:
            return EventResponse.failure(error.code, str(error))

    async def add_agent(self, agent_id: str, metadata: dict[str, Any], **how: Any) -> EventResponse:
        """Register an agent (see `AgentRegistry.register`), on disk too, and tell the mods.

        A password is checked first, which may take a while; nothing has changed until then.

        Raises `ModvisorError`.
        """
        agents = (parts := self._running()).agents
        given = how.get("group"), how.get("password_hash"), how.get("address")
        gives_password = how.get("password_hash") is not None
        if gives_password:
            parts.audit.check()
        proved = await agents.prove(agent_id, *given)
        agent, secret = await agents.kept(lambda: agents.register(agent_id, metadata, proved=proved, **how))
        parts.gateway.notify_mods(
            Event("system.notification.register_agent", "system:system",
                  payload={"agent_id": agent_id, "metadata": metadata, "group": agent.group})
        )  # fmt: skip
        if gives_password or how.get("invite") is not None:
            by = Actor(f"{AGENT}:{agent_id}", how.get("address"))
            detail = {"group": agent.group, "by": "password" if gives_password else "invite"}
            self.audit_note("agent.login", on=agent_id, detail=detail, by=by)
        data = {
            "agent_id": agent_id,
            "secret": secret,
            "assigned_group": agent.group,
            "network_name": self.config.name,
            "network_id": self.config.network_id,
        }
        return EventResponse(True, f"agent {agent_id} registered", data)

    async def kick_agent(self, agent_id: str, by: str) -> EventResponse:
        """Unregister an agent, keep its id away for `agents.kick_cooldown`, and tell all agents.

        Raises `ModvisorError`.

        Args:
            by: who kicked it, for the agents.
        """
        agents = self._running().agents
        agent = agents.get(agent_id)
        told_to = None if agent is None else known_by(agent, agents)
        remove = partial(self.remove_agent, agent_id, "kicked")
        response = await self.audited("agent.kick", on=agent_id, do=remove)
        if response.success and agent is not None:
            data = {"target_agent_id": agent_id, "kicked_by": by, "target_group": agent.group}
            told = {**data, "reason": "kicked by an administrator", "timestamp": int(time.time())}
            event = Event("system.agent_kicked", "system:system", f"{AGENT}:{BROADCAST}", told)
            if told_to is not None:
                event.visibility, event.allowed_agents = "restricted", told_to
            agents.deliver(event, Address(AGENT, BROADCAST))
            response.data = data
        return response

    async def forget_agent(self, agent_id: str) -> EventResponse:
        """Delete what the network keeps of an agent, whether it is registered or not, and tell the mods.

        ``data``: agent_id, inbox (events that waited for it), and what was deleted on disk, see
        `Forgotten`. What mods keep of it, backups and the audit stay.
        """
        try:
            return await self.audited("agent.forget", on=agent_id, do=partial(self._forget_agent, agent_id))
        except ModvisorError as error:
            return EventResponse.failure(error.code, str(error))

    async def _forget_agent(self, agent_id: str) -> EventResponse:
        check_agent_id(agent_id)
        parts = self._running()
        agent = parts.agents.get(agent_id)
        inbox = 0 if agent is None else len(agent.inbox)
        forgotten = await parts.journal.forget_agent(agent_id)
        await parts.agents.kept(lambda: parts.agents.forget(agent_id))
        if agent is None and forgotten.is_empty:
            text = f"nothing is kept of an agent {agent_id!r}; see 'system.list_agents' for the agents there are"
            return EventResponse.failure(Code.NO_SUCH_AGENT, text)
        payload = {"agent_id": agent_id, "reason": "forgotten"}
        parts.gateway.notify_mods(Event("system.notification.unregister_agent", "system:system", payload=payload))
        data = {"agent_id": agent_id, "inbox": inbox, **asdict(forgotten)}
        return EventResponse(True, f"agent {agent_id} is forgotten", data)

    async def remove_agent(self, agent_id: str, reason: str) -> EventResponse:
        """Unregister an agent, on disk too, and tell the mods.

        Raises `ModvisorError`.

        Args:
            reason: unregistered, expired or kicked.
        """
        parts = self._running()
        remove = parts.agents.kick if reason == "kicked" else parts.agents.unregister
        if await parts.agents.kept(lambda: remove(agent_id)) is None:
            return EventResponse.failure(Code.NO_SUCH_AGENT, f"no agent {agent_id!r} is registered")
        payload = {"agent_id": agent_id, "reason": reason}
        parts.gateway.notify_mods(Event("system.notification.unregister_agent", "system:system", payload=payload))
        return EventResponse(True, f"agent {agent_id} {reason}", {"agent_id": agent_id})

    def authenticate(self, agent_id: str, secret: str | None) -> bool:
        """Whether ``secret`` is the secret of this agent."""
        return self._parts is not None and self._parts.agents.authenticate(agent_id, secret) is not None

    def is_member(self, agent_id: str) -> bool:
        """Whether the agent is in a group that nobody joins without a password or an invite."""
        agent = self._parts.agents.get(agent_id) if self._parts is not None else None
        return agent is not None and agent.group is not None and not agent.is_guest

    def agents_known_to(self, agent_id: str) -> dict[str, dict[str, Any]]:
        """Return the agents that an agent may know of, as ``GET /api/health`` shows them to it."""
        agent = self._parts.agents.get(agent_id) if self._parts is not None else None
        if self._parts is None or agent is None:
            return {}
        known = agent_directory(known_to(agent, self._parts.agents))
        return {agent_id: entry.to_dict() for agent_id, entry in known.items()}

    # -- invites

    async def make_invite(
        self,
        *,
        group: str | None = None,
        agent: str | None = None,
        expires: float = DAY,
        uses: int = 1,
        by: str = "operator",
        manager: Manager | None = None,
    ) -> EventResponse:
        """Make an invite: a code with which an agent registers, once unless ``uses`` says otherwise.

        ``data``: invite (the code, which is shown this once), invite_id, agent_group, agent, uses,
        expires_at, created_at, created_by.

        Args:
            group: the group that the invited agents join; None: they choose as anybody.
            agent: the id that it is for, or a pattern such as ``bot-*``; None: any that is not
                reserved.
            expires: seconds until it can no longer be used.
            uses: how many agents it registers.
            by: who makes it.
            manager: what the maker may give; None: everything.
        """
        how = {"group": group, "agents": agent, "uses": uses, "expires": expires, "by": by, "manager": manager}
        try:
            agents = self._running().agents
            detail = {"group": group, "agent": agent, "uses": uses, "expires": expires}
            invite, code = await self.audited(
                "invite.create", do=lambda: agents.kept(lambda: agents.invite(**how)), detail=detail
            )
        except ModvisorError as error:
            return EventResponse.failure(error.code, str(error))
        return EventResponse(True, f"invite {invite.invite_id} made", {"invite": code, **invite.to_dict()})

    def list_invites(self) -> list[dict[str, Any]]:
        """Return the invites that can still be used, oldest first, without their codes."""
        return [invite.to_dict() for invite in self._parts.agents.invites] if self._parts is not None else []

    async def revoke_invite(self, invite_id: str, manager: Manager | None = None) -> EventResponse:
        """Take an invite back. ``data``: invite_id."""
        try:
            agents = self._running().agents
            await self.audited(
                "invite.revoke", on=invite_id, do=lambda: agents.kept(lambda: agents.revoke_invite(invite_id, manager))
            )
        except ModvisorError as error:
            return EventResponse.failure(error.code, str(error))
        return EventResponse(True, f"invite {invite_id} revoked", {"invite_id": invite_id})
