"""Who is registered: secrets, groups, permissions, subscriptions.

An agent's id belongs to whoever has its secret. The registry stores hashes of secrets only. Three
ways lead to a live id: its secret, the password of its group, or a manager of agents that has all
the permissions that the agent has. No way leads to more permissions than the caller proved.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Iterable
from typing import Any

from ...ipc.address import check_agent_id
from ...ipc.errors import Code, RemoteProtocolError, Unserializable
from ...ipc.messages import pack, unpack
from ...ipc.topic import check_pattern
from ..config import AgentsConfig, GroupConfig
from .agent import Agent, Subscription
from .delivery import Inboxes, Refusal

MAX_SUBSCRIPTIONS = 1000  # of one agent


class AgentRegistry(Inboxes):
    """All agents and channels of a network, with the rights of each agent."""

    def register(
        self,
        agent_id: str,
        metadata: dict[str, Any],
        *,
        group: str | None = None,
        password_hash: str | None = None,
        secret: str | None = None,
        retake: bool = False,
        trusted: bool = False,
        manages: frozenset[str] | None = None,
    ) -> tuple[Agent, str]:
        """Register an agent, or take over a live id with its secret or with its group's password.

        Args:
            password_hash: SHA-256 (hexadecimal) of the password of the group to join.
            secret: the present secret of the id, for an agent that takes its id over.
            retake: the caller has checked this secret already.
            trusted: the request comes from inside: it gets any group and any id without proof.
            manages: permissions of a caller that manages agents (None: it does not). It needs no
                password for a group, and no secret for a live id, whose permissions it has itself.
                It can give nothing that it does not have.

        Returns:
            the agent and its new secret.

        Raises:
            InvalidId: the id does not follow the grammar.
            Refusal: id_taken, unauthenticated, forbidden, bad_input, no_such_group or overloaded.
                Nothing has changed then.
        """
        check_agent_id(agent_id)
        metadata, packed = _storable(metadata)
        present = self._agents.get(agent_id)
        assigned = self._assign_group(group, password_hash, trusted, manages)
        if present is not None:
            if not (trusted or retake):
                self._check_retake(present, secret, password_hash, manages)
            if assigned is None:
                assigned = present.group
        elif len(self._agents) >= self._config.max_agents:
            raise Refusal(
                f"the network has {len(self._agents)} agents, which is the most ('agents.max_agents')",
                code=Code.OVERLOADED,
            )
        new_secret = secrets.token_urlsafe(32)
        agent = Agent(agent_id, metadata, assigned, hash_secret(new_secret), time.time(), self._now(), time.time())
        if present is not None:  # the same agent is back: it keeps what waits for it
            agent.inbox, agent.subscriptions, agent.dropped = present.inbox, present.subscriptions, present.dropped
        self._save(agent, packed)
        self._agents[agent_id] = agent
        self._can_undo(lambda: self._put_back(agent, present))
        if present is not None:
            _end_polls(present)
        return agent, new_secret

    def restore(self, agents: Iterable[Agent], channels: dict[str, list[str]]) -> None:
        """Take over the agents that the journal kept, with their secrets, groups and channels."""
        for agent in agents:
            agent.last_seen = self._now()
            self._agents[agent.agent_id] = agent
        for name, members in channels.items():
            for agent_id in members:
                if agent_id in self._agents:
                    self._enter(name, agent_id)

    def unregister(self, agent_id: str) -> Agent | None:
        """Forget an agent and its memberships; None if no agent has this id."""
        agent = self._agents.pop(agent_id, None)
        if agent is None:
            return None
        for name in list(self._memberships.get(agent_id, ())):
            self._exit(name, agent_id)
        self._on_change("unregister", {"agent_id": agent_id})
        self._can_undo(lambda: self._agents.setdefault(agent_id, agent))
        _end_polls(agent)
        return agent

    def _put_back(self, agent: Agent, former: Agent | None) -> None:
        """Undo a registration."""
        if self._agents.get(agent.agent_id) is not agent:  # another one has the id by now
            return
        if former is not None:
            self._agents[agent.agent_id] = former
            return
        del self._agents[agent.agent_id]
        for name in list(self._memberships.get(agent.agent_id, ())):
            self._forget(name, agent.agent_id)

    def expired(self) -> list[str]:
        """Return the ids of agents that were not seen for longer than `agents.expire_after`."""
        if self._config.expire_after is None:
            return []
        limit = self._now() - self._config.expire_after
        return [agent.agent_id for agent in self._agents.values() if agent.last_seen < limit and not agent.polling]

    def _save(self, agent: Agent, packed: bytes) -> None:
        self._on_change(
            "register",
            {
                "agent_id": agent.agent_id,
                "metadata": packed,
                "group": agent.group,
                "secret_hash": agent.secret_hash,
                "registered_at": agent.registered_at,
            },
        )

    # -- who an agent is, and what it may do

    def authenticate(self, agent_id: str, secret: str | None) -> Agent | None:
        """Return the agent if `secret` is its secret. This counts as a sign of life."""
        agent = self._agents.get(agent_id)
        if agent is None or not _has_secret(agent, secret):
            return None
        self.seen(agent)
        return agent

    def permissions_of(self, agent: Agent) -> frozenset[str]:
        group = self._group_of(agent)
        return group.permissions if group is not None else frozenset()

    def use_groups(self, groups: dict[str, GroupConfig], config: AgentsConfig) -> None:
        """Use the groups and limits of a network file that was read again."""
        self._groups, self._config = groups, config

    def members_of_groups(self) -> dict[str, list[str]]:
        """Return group name -> ids of its members. Configured groups without members are included."""
        members: dict[str, list[str]] = {name: [] for name in self._groups}
        for agent in self._agents.values():
            if agent.group is not None:
                members.setdefault(agent.group, []).append(agent.agent_id)
        return members

    def _group_of(self, agent: Agent) -> GroupConfig | None:
        return self._groups.get(agent.group) if agent.group is not None else None

    def _assign_group(
        self, name: str | None, password_hash: str | None, trusted: bool, manages: frozenset[str] | None
    ) -> str | None:
        """Return the group that is asked for by name or by password, or the default group."""
        if name:
            group = self._groups.get(name)
            if group is None:
                raise Refusal(f"agent_group {name!r} is not configured", code=Code.NO_SUCH_GROUP)
            if not trusted:
                self._check_may_join(group, password_hash, manages)
            return name
        if password_hash:
            for candidate in self._groups.values():
                if _same(candidate.password_hash, password_hash):
                    return candidate.name
            raise Refusal("no agent group has this password", code=Code.UNAUTHENTICATED)
        return self._config.default_group

    def _check_may_join(self, group: GroupConfig, password_hash: str | None, manages: frozenset[str] | None) -> None:
        if manages is not None and not password_hash:
            if more := group.permissions - manages:
                raise Refusal(
                    f"agent_group {group.name!r} may do more than you ({_listed(more)}); give its password",
                    code=Code.FORBIDDEN,
                )
        elif group.password_hash is None:
            if group.permissions:  # otherwise any agent could join and have them
                raise Refusal(
                    f"agent_group {group.name!r} has permissions but no password; only code inside the network can assign it",
                    code=Code.FORBIDDEN,
                )
        elif not _same(group.password_hash, password_hash):
            raise Refusal(f"wrong password for agent_group {group.name!r}", code=Code.UNAUTHENTICATED)

    def _check_retake(
        self, agent: Agent, secret: str | None, password_hash: str | None, manages: frozenset[str] | None
    ) -> None:
        """Raise `Refusal` unless the caller proves that it may take over the id of a live agent."""
        if _has_secret(agent, secret):
            return
        group = self._group_of(agent)
        if group is not None and _same(group.password_hash, password_hash):
            return
        if manages is None:
            raise Refusal(
                f"agent id {agent.agent_id!r} is taken by a live agent; unregister it with its secret, register with "
                "its secret or its group's password, or choose another id",
                code=Code.ID_TAKEN,
            )
        if more := self.permissions_of(agent) - manages:
            raise Refusal(
                f"agent {agent.agent_id!r} may do more than you ({_listed(more)}); give its secret or its group's "
                "password",
                code=Code.FORBIDDEN,
            )

    # -- subscriptions

    def subscribe(self, agent: Agent, patterns: list[str], channels: list[str]) -> Subscription:
        """Add a subscription. An agent with subscriptions gets only events that match one of them.

        Raises:
            InvalidEvent: a pattern does not follow the grammar.
            Refusal: the agent has `MAX_SUBSCRIPTIONS` already.
        """
        if len(agent.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Refusal(f"agent {agent.agent_id!r} has {MAX_SUBSCRIPTIONS} subscriptions, which is the most")
        subscription = Subscription(
            uuid.uuid4().hex,
            tuple(check_pattern(pattern) for pattern in patterns),
            frozenset(channel.removeprefix("channel:") for channel in channels),
        )
        agent.subscriptions[subscription.subscription_id] = subscription
        return subscription


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 of a secret. It need not be slow: a random secret cannot be guessed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _has_secret(agent: Agent, secret: str | None) -> bool:
    return bool(secret) and hmac.compare_digest(agent.secret_hash, hash_secret(secret))


def _end_polls(agent: Agent) -> None:
    """Wake the polls that wait with a secret that is no longer valid, so that they end."""
    if agent.arrival is not None:
        agent.arrival.set()


def _same(expected: str | None, given: str | None) -> bool:
    """Compare two hexadecimal hashes in constant time. `given` may be any text."""
    if not expected or not given:
        return False
    # As bytes: compare_digest takes no text beyond ASCII.
    ours, theirs = (text.lower().encode("utf-8", "surrogatepass") for text in (expected, given))
    return hmac.compare_digest(ours, theirs)


def _storable(metadata: Any) -> tuple[dict[str, Any], bytes]:
    """Return metadata as a restart will give it back, and packed for the journal.

    Raises:
        Refusal: the metadata cannot be stored; the message names the place in it.
    """
    if type(metadata) is not dict:
        raise Refusal(f"metadata: expected a mapping, got {type(metadata).__name__}")
    try:
        packed = pack(metadata)
        return unpack(packed), packed
    except (Unserializable, RemoteProtocolError) as error:
        raise Refusal(f"metadata: {error}") from None


def _listed(permissions: frozenset[str]) -> str:
    return ", ".join(sorted(permissions))
