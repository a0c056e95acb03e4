"""Who is registered: secrets, groups, permissions, subscriptions.

An agent's id belongs to whoever has its secret. The registry stores hashes of secrets only. Three
ways lead to a live id: its secret, the password of its group, or a manager of agents that has all
the permissions that the agent has. No way leads to more permissions than the caller proved.

What a stranger can have without a password is bounded: see `guests` and `guesses`.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from ...ipc.address import AGENT, check_agent_id
from ...ipc.errors import Code, RemoteProtocolError, Unserializable
from ...ipc.messages import pack, unpack
from ..config import AgentsConfig, GroupConfig
from .agent import Agent
from .delivery import Commit, Inboxes
from .guesses import Guesses
from .kicked import Kicked
from .mirrors import GONE, REGISTERED
from .refusal import Refusal
from .subscriptions import Subscription


class _Claim(NamedTuple):
    """What a request to register asks for, and what it proves; see `AgentRegistry.register`."""

    secret: str | None
    group: str | None
    password_hash: str | None
    trusted: bool
    manages: frozenset[str] | None
    address: str | None


class AgentRegistry(Inboxes):
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
        self._guesses = Guesses(lambda: self._config, now)
        self._kicked = Kicked(lambda: self._config, now)

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
        address: str | None = None,
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
            address: the name under which the caller's address is counted; None: no count per
                address holds for it.

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
        claim = _Claim(secret, group, password_hash, trusted, manages, address)
        assigned = self._assign_group(claim)
        is_guest = not (trusted or manages is not None or self._gave_password(claim, assigned))
        if present is not None:
            if not (trusted or retake):
                self._check_retake(present, claim)
            if assigned is None:
                assigned = present.group
        else:
            self._check_room(is_guest, address)
        new_secret = secrets.token_urlsafe(32)
        agent = Agent(agent_id, metadata, assigned, hash_secret(new_secret), time.time(), self._now(), time.time())
        if is_guest:
            agent.is_guest, agent.address, agent.has_returned = True, address, address is None
        if present is not None:
            agent.take_over(present)
        self._save(agent, packed)
        self._enroll(agent)
        self._can_undo(lambda: self._put_back(agent, present))
        if present is not None:
            _end_polls(present)
        return agent, new_secret

    def _check_room(self, is_guest: bool, address: str | None) -> None:
        if len(self._agents) >= self._config.max_agents:
            raise Refusal(
                f"the network has {len(self._agents)} agents, which is the most ('agents.max_agents')",
                code=Code.OVERLOADED,
            )
        if is_guest:
            if self._config.requires_password:
                raise Refusal(
                    "this network takes only agents that give the password of a group; register with its 'password_hash'",
                    code=Code.UNAUTHENTICATED,
                )
            self._guests.check(self._config, address, is_shared=self._has_passwords)

    def _enroll(self, agent: Agent) -> None:
        if (present := self._agents.get(agent.agent_id)) is not None:
            self._guests.leave(present)
        self._agents[agent.agent_id] = agent
        for source in _sources_of(agent.agent_id):
            self.by_source[source] = agent
        self._guests.enter(agent)
        self.mirrors.note(REGISTERED, agent.agent_id, agent.metadata, agent.group)

    def _drop(self, agent_id: str) -> Agent | None:
        for source in _sources_of(agent_id):
            self.by_source.pop(source, None)
        return self._agents.pop(agent_id, None)

    def restore(self, agents: Iterable[Agent], channels: dict[str, list[str]]) -> None:
        """Take over the agents that the journal kept, with their secrets, groups and channels."""
        for agent in agents:
            agent.last_seen = self._now()
            self._enroll(agent)
        for name, members in channels.items():
            for agent_id in members:
                if agent_id in self._agents:
                    self._enter(name, agent_id)

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
        _end_polls(agent)
        return agent

    def kick(self, agent_id: str) -> Agent | None:
        """Forget an agent as `unregister` does, and keep its id away for `agents.kick_cooldown`."""
        agent = self.unregister(agent_id)
        if agent is not None:
            self._kicked.note(agent_id)
        return agent

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

    def _assign_group(self, claim: _Claim) -> str | None:
        """Return the group that is asked for by name or by password, or the default group."""
        name = claim.group
        if name:
            group = self._groups.get(name)
            if group is None:
                raise Refusal(f"agent_group {name!r} is not configured", code=Code.NO_SUCH_GROUP)
            if not claim.trusted:
                self._check_may_join(group, claim)
            return name
        if claim.password_hash:
            guarded = [group for group in self._groups.values() if group.password_hash]
            found = self._with_password(guarded, claim)
            if found is None:
                raise Refusal("no agent group has this password", code=Code.UNAUTHENTICATED)
            return found.name
        return self._config.default_group

    def _gave_password(self, claim: _Claim, assigned: str | None) -> bool:
        """Return whether the caller was assigned this group for its password."""
        group = self._groups.get(assigned) if assigned is not None else None
        return bool(claim.password_hash and group is not None and group.password_hash)

    def _with_password(self, groups: list[GroupConfig], claim: _Claim) -> GroupConfig | None:
        """Return the group whose password was given, or None. This counts wrong passwords.

        Raises:
            Refusal: too_many: the address has given too many wrong passwords for these groups.
        """
        address = claim.address
        names = [group.name for group in groups] if claim.password_hash else []
        if address is not None and (wait := self._guesses.wait(address, names)) > 0:
            raise Refusal(
                f"too many wrong passwords from {address}; try again in {math.ceil(wait)} s",
                code=Code.TOO_MANY,
                retry_after=math.ceil(wait),
            )
        found = next((group for group in groups if _same(group.password_hash, claim.password_hash)), None)
        if found is None and address is not None:
            self._guesses.wrong(address, names)
        return found

    def _check_may_join(self, group: GroupConfig, claim: _Claim) -> None:
        if claim.manages is not None and not claim.password_hash:
            if more := group.permissions - claim.manages:
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
        elif self._with_password([group], claim) is None:
            raise Refusal(f"wrong password for agent_group {group.name!r}", code=Code.UNAUTHENTICATED)

    def _check_retake(self, agent: Agent, claim: _Claim) -> None:
        """Raise `Refusal` unless the caller proves that it may take over the id of a live agent."""
        if _has_secret(agent, claim.secret):
            return
        group = self._group_of(agent)
        if group is not None and group.password_hash and self._with_password([group], claim):
            return
        if claim.manages is None:
            raise Refusal(
                f"agent id {agent.agent_id!r} is taken by a live agent; unregister it with its secret, register with "
                "its secret or its group's password, or choose another id",
                code=Code.ID_TAKEN,
            )
        if more := self.permissions_of(agent) - claim.manages:
            raise Refusal(
                f"agent {agent.agent_id!r} may do more than you ({_listed(more)}); give its secret or its group's "
                "password",
                code=Code.FORBIDDEN,
            )


def hash_secret(secret: str) -> bytes:
    """Return the SHA-256 of a secret. It need not be slow: a random secret cannot be guessed."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _has_secret(agent: Agent, secret: str | None) -> bool:
    return bool(secret) and hmac.compare_digest(agent.secret_hash, hash_secret(secret))


def _sources_of(agent_id: str) -> tuple[str, str]:
    """Return the two forms in which the source of an event may name an agent."""
    return agent_id, f"{AGENT}:{agent_id}"


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


def _listed(permissions: frozenset[str]) -> str:
    return ", ".join(sorted(permissions))
