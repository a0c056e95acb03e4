"""Who is registered: secrets, groups, permissions, subscriptions.

An agent's id belongs to whoever has its secret. The registry stores hashes of secrets only. Three
ways lead to a live id: its secret, the password of its group, or a manager of agents that may do
all that the agent may. No way leads to more rights than the caller proved.

What a stranger can have without a password is bounded: see `guests` and `guesses`.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ...ipc.address import AGENT, check_agent_id
from ...ipc.errors import Code, RemoteProtocolError, Unserializable
from ...ipc.event import Event
from ...ipc.messages import pack, unpack
from ..config import AgentsConfig, GroupConfig, QuotaConfig
from .agent import Agent
from .delivery import Commit, packed_size
from .inboxes.subscriptions import Subscription
from .joining import Claim, Joining, Manager
from .mirrors import GONE, REGISTERED
from .rights.hashes import hash_of, is_hash_of
from .rights.invites import Invite
from .rights.kicked import Kicked
from .rights.pace import Pace, PaceOfAddresses
from .rights.refusal import Refusal
from .rights.rights import Rulebook


class AgentRegistry(Joining):
    """All agents and channels of a network, with the rights of each agent."""

    def __init__(
        self,
        config: AgentsConfig,
        groups: dict[str, GroupConfig],
        on_change: Callable[[str, dict[str, Any]], None],
        now: Callable[[], float] = time.monotonic,
        commit: Commit | None = None,
    ) -> None:
        super().__init__(config, groups, on_change, now, commit)
        self._kicked = Kicked(lambda: self._config, now)
        self._paces = PaceOfAddresses()

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
        manages: Manager | frozenset[str] | None = None,
        address: str | None = None,
        invite: str | None = None,
        proved: frozenset[str] = frozenset(),
    ) -> tuple[Agent, str]:
        """Register an agent, or take over a live id with its secret or with its group's password.

        Args:
            password_hash: SHA-256 (hexadecimal) of the password of the group to join.
            secret: the present secret of the id, for an agent that takes its id over.
            retake: the caller has checked this secret already.
            trusted: the request comes from inside: it gets any group and any id without proof.
            manages: what a caller that manages agents may do (None: it does not). It needs no
                password for a group, and no secret for a live id, whose rights it has itself.
                It can give nothing that it does not have.
            address: the name under which the caller's address is counted; None: no count per
                address holds for it.
            invite: the code of an invite.
            proved: the argon2id passwords that ``password_hash`` is, see `prove`.

        Returns:
            the agent and its new secret.

        Raises:
            InvalidId: the id does not follow the grammar.
            Refusal: id_taken, unauthenticated, forbidden, bad_input, too_large, too_many (also: its
                agent was kicked), no_such_group or overloaded. Nothing has changed then.
        """
        check_agent_id(agent_id)
        if not trusted:
            self._kicked.check(agent_id)
        metadata, packed = _storable(metadata, self._config.metadata_bytes)
        present = self._agents.get(agent_id)
        manager = Manager(manages) if isinstance(manages, frozenset) else manages
        claim = Claim(agent_id, secret, group, password_hash, trusted, manager, address, invite, proved)
        admitted = self._admit(claim, present)
        assigned, is_guest = admitted.group, admitted.is_guest
        if present is not None:
            if not (trusted or retake or admitted.is_again):
                self._check_retake(present, claim)
            if assigned is None:
                assigned = present.group
        else:
            self._check_room(is_guest, address)
        new_secret = secrets.token_urlsafe(32)
        agent = Agent(agent_id, metadata, assigned, hash_of(new_secret), time.time(), self._now(), time.time())
        if is_guest:
            agent.is_guest, agent.address, agent.has_returned = True, address, address is None
        if present is not None:
            agent.take_over(present)
        self._save(agent, packed)
        if admitted.invite is not None:
            self._spend(admitted.invite)
            if admitted.invite.uses == 1:  # others may have the code of one with more
                agent.redeemed = hash_of(invite or ""), agent.last_seen, address
        elif admitted.is_again:
            agent.redeemed = hash_of(invite or ""), agent.last_seen, address
        self._enroll(agent)
        self._can_undo(lambda: self._put_back(agent, present))
        if present is not None:
            end_polls(present)
        return agent, new_secret

    def _check_room(self, is_guest: bool, address: str | None) -> None:
        if len(self._agents) >= self._config.max_agents:
            raise Refusal(
                f"the network has {len(self._agents)} agents, which is the most ('agents.max_agents')",
                code=Code.OVERLOADED,
            )
        if is_guest:
            self._guests.check(self._config, address, is_shared=self._has_passwords)

    def _enroll(self, agent: Agent) -> None:
        if (present := self._agents.get(agent.agent_id)) is not None:
            self._guests.leave(present)
        self._agents[agent.agent_id] = agent
        agent.rights = self._rules.of(agent.group)
        for source in _sources_of(agent.agent_id):
            self.by_source[source] = agent
        self._guests.enter(agent)
        self.mirrors.note(REGISTERED, agent.agent_id, agent.metadata, agent.group)

    def _drop(self, agent_id: str) -> Agent | None:
        for source in _sources_of(agent_id):
            self.by_source.pop(source, None)
        return self._agents.pop(agent_id, None)

    def restore(
        self,
        agents: Iterable[Agent],
        channels: dict[str, list[str]],
        private: Mapping[str, str | None] | None = None,
        invites: Iterable[Invite] = (),
    ) -> None:
        """Take over what the journal kept: agents with their secrets and groups, channels, invites."""
        for agent in agents:
            agent.last_seen = self._now()
            self._enroll(agent)
        for name, members in channels.items():
            for agent_id in members:
                if agent_id in self._agents:
                    self._enter(name, agent_id)
        self.private.update((name, maker) for name, maker in (private or {}).items() if name in self._channels)
        for invite in invites:
            self._invites.put(invite)

    def unregister(self, agent_id: str) -> Agent | None:
        """Forget an agent and its memberships; None if no agent has this id."""
        agent = self._drop(agent_id)
        if agent is None:
            return None
        self._guests.leave(agent)
        subscriptions = dict(agent.subscriptions)
        self.unsubscribe(agent)
        for name in list(self._memberships.get(agent_id, ())):
            self._exit(name, agent_id)
        self.mirrors.note(GONE, agent_id)
        self._on_change("unregister", {"agent_id": agent_id})
        self._can_undo(lambda: self._come_back(agent, subscriptions))
        end_polls(agent)
        return agent

    def kick(self, agent_id: str) -> Agent | None:
        """Forget an agent as `unregister` does, and keep its id away for `agents.kick_cooldown`."""
        agent = self.unregister(agent_id)
        if agent is not None:
            self._kicked.note(agent_id)
        return agent

    def forget(self, agent_id: str) -> Agent | None:
        """Forget an agent as `unregister` does, the invites for its id alone, and which channels it made."""
        for invite in self._invites:
            if invite.agents == agent_id:
                self._forget_invite(invite)
        self.private.update({name: None for name, maker in self.private.items() if maker == agent_id})
        return self.unregister(agent_id)

    def _come_back(self, agent: Agent, subscriptions: dict[str, Subscription]) -> None:
        """Undo an unregistration."""
        if agent.agent_id not in self._agents:
            self._enroll(agent)
            for subscription in subscriptions.values():
                self._subscribe(agent, subscription)

    def _put_back(self, agent: Agent, former: Agent | None) -> None:
        """Undo a registration."""
        if self._agents.get(agent.agent_id) is not agent:  # another one has the id by now
            return
        if former is not None:
            self._enroll(former)
            return
        self._drop(agent.agent_id)
        self._guests.leave(agent)
        self.unsubscribe(agent)
        for name in list(self._memberships.get(agent.agent_id, ())):
            self._forget(name, agent.agent_id)
        self.mirrors.note(GONE, agent.agent_id)

    def expired(self) -> list[str]:
        """Return the ids of agents that were not seen for longer than `agents.expire_after`.

        A guest that has not come back since its registration has only `agents.guest_return`, if
        its address is counted.
        """
        now, most, first = self._now(), self._config.expire_after, self._config.guest_return
        most = math.inf if most is None else most
        first = most if first is None else min(first, most)
        return [
            agent.agent_id
            for agent in self._agents.values()
            if now - agent.last_seen > (most if agent.has_returned else first) and not agent.polling
        ]

    def _save(self, agent: Agent, packed: bytes) -> None:
        self._on_change(
            "register",
            {
                "agent_id": agent.agent_id,
                "metadata": packed,
                "group": agent.group,
                "secret_hash": agent.secret_hash,
                "registered_at": agent.registered_at,
                "guest": agent.is_guest,
                "address": agent.address,
                "returned": agent.has_returned,
            },
        )

    async def bring_home(self, agent: Agent) -> None:
        """Have this node hold an agent's inbox, before its events are taken. A network of one node always does."""

    def is_home(self, agent: Agent) -> bool:
        """Return whether this node holds the agent's inbox."""
        return True

    # -- who an agent is, and what it may do

    def authenticate(self, agent_id: str, secret: str | None) -> Agent | None:
        """Return the agent if `secret` is its secret. This counts as a sign of life."""
        agent = self._agents.get(agent_id)
        if agent is None or not _has_secret(agent, secret):
            return None
        if not agent.has_returned:
            agent.has_returned = True
            self._on_change("returned", {"agent_id": agent_id})
        self.seen(agent)
        return agent

    def use_groups(self, groups: dict[str, GroupConfig], config: AgentsConfig) -> None:
        """Use the groups and limits of a network file that was read again."""
        self._groups, self._config = groups, config
        self._rules = Rulebook(config, groups)
        self._passwords.keep_only(group.password_hash for group in groups.values())
        for agent in self._agents.values():
            agent.rights = self._rules.of(agent.group)

    @property
    def groups(self) -> dict[str, GroupConfig]:
        """The groups of the network file, by name."""
        return self._groups

    def members_of_groups(self) -> dict[str, list[str]]:
        """Return group name -> ids of its members. Configured groups without members are included."""
        members: dict[str, list[str]] = {name: [] for name in self._groups}
        for agent in self._agents.values():
            if agent.group is not None:
                members.setdefault(agent.group, []).append(agent.agent_id)
        return members

    def _check_retake(self, agent: Agent, claim: Claim) -> None:
        """Raise `Refusal` unless the caller proves that it may take over the id of a live agent."""
        if _has_secret(agent, claim.secret):
            return
        group = self._group_of(agent)
        if group is not None and group.password_hash and self._with_password([group], claim):
            return
        if claim.manager is None:
            raise Refusal(
                f"agent id {agent.agent_id!r} is taken by a live agent; unregister it with its secret, register with "
                "its secret or its group's password, or choose another id",
                code=Code.ID_TAKEN,
            )
        if more := claim.manager.lacks(agent.rights):
            raise Refusal(
                f"agent {agent.agent_id!r} may do more than you ({', '.join(more)}); give its secret or its group's "
                "password",
                code=Code.FORBIDDEN,
            )

    def check_rank(self, agent: Agent, manager: Manager) -> None:
        """Raise `Refusal` (forbidden) if an agent may do what who manages it may not."""
        if more := manager.lacks(agent.rights):
            raise Refusal(
                f"agent {agent.agent_id!r} may do more than you ({', '.join(more)}), so only the agent itself and "
                "those that may do all of this can do it",
                code=Code.FORBIDDEN,
            )

    # -- what an agent may send

    def check_sending(self, agent: Agent, event: Event) -> None:
        """Count an event that an agent sends whose rights are gated, if it is one that it may send.

        Raises:
            Refusal: forbidden; or too_many, if its quota is used up.
        """
        name, gate = event.event_name, agent.rights
        quota = gate.quota
        if name not in gate.send and not name.startswith("system."):
            text = f"agent {agent.agent_id!r} may not send {name}: {gate.whose} may send {gate.send}"
            raise Refusal(text, code=Code.FORBIDDEN)
        size = 0 if quota.bytes_per_second is None else packed_size(event)
        wait = self._pace_of(agent).take(self._now(), quota.events_per_second, size, quota.bytes_per_second)
        if wait:
            raise Refusal(
                f"agent {agent.agent_id!r} sends more than its quota ({_in_words(quota)}); try again in {math.ceil(wait)} s",
                code=Code.TOO_MANY,
                retry_after=math.ceil(wait),
            )

    def _pace_of(self, agent: Agent) -> Pace:
        if agent.address is not None:
            return self._paces.at(agent.address)
        if agent.pace is None:
            agent.pace = Pace()
        return agent.pace


def _has_secret(agent: Agent, secret: str | None) -> bool:
    return bool(secret) and is_hash_of(agent.secret_hash, secret)


def _sources_of(agent_id: str) -> tuple[str, str]:
    """Return the two forms in which the source of an event may name an agent."""
    return agent_id, f"{AGENT}:{agent_id}"


def end_polls(agent: Agent) -> None:
    """Wake the polls that wait with a secret that is no longer valid, so that they end."""
    if agent.arrival is not None:
        agent.arrival.set()


def _storable(metadata: Any, most: int) -> tuple[dict[str, Any], bytes]:
    """Return metadata as a restart will give it back, and packed for the journal.

    Raises:
        Refusal: the metadata cannot be stored; the message names the place in it. too_large: it
            takes more than ``most`` bytes.
    """
    if type(metadata) is not dict:
        raise Refusal(f"metadata: expected a mapping, got {type(metadata).__name__}")
    try:
        packed = pack(metadata)
        if len(packed) <= most:
            return unpack(packed), packed
    except (Unserializable, RemoteProtocolError) as error:
        raise Refusal(f"metadata: {error}") from None
    raise Refusal(
        f"metadata: {len(packed)} bytes, more than the {most} of 'agents.metadata_bytes'", code=Code.TOO_LARGE
    )


def _in_words(quota: QuotaConfig) -> str:
    events, size = quota.events_per_second, quota.bytes_per_second
    given = [] if events is None else [f"{events:g} events"]
    return " and ".join([*given, *([] if size is None else [f"{size} bytes"])]) + " per second"
