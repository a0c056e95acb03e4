"""Agents, their groups, secrets, subscriptions and inboxes; channels; delivery. Knows nothing of mods."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...ipc.address import AGENT, BROADCAST, CHANNEL, GROUP, Address, check_agent_id, parse_address
from ...ipc.errors import Code, ModvisorError, RemoteProtocolError, Unserializable
from ...ipc.event import Event
from ...ipc.messages import pack, unpack
from ...ipc.topic import check_pattern
from ..config import AgentsConfig, GroupConfig
from .agent import Agent, Subscription

MAX_POLL_WAIT = 60.0  # seconds one long-poll may take
MAX_SUBSCRIPTIONS = 1000  # of one agent
MAX_CHANNELS = 10_000  # of the network, whose journal and lists hold them all
MAX_MEMBERSHIPS = 1000  # channels one agent is in, so that no single one can use up the network's


class Refusal(ModvisorError):
    """A request about agents or channels that is not granted."""

    code = Code.BAD_INPUT


@dataclass(frozen=True, slots=True)
class Delivery:
    """To how many inboxes an event went, and how many refused it because they are full."""

    reached: int
    full: int = 0


class AgentRegistry:
    """All agents and channels of a network.

    Args:
        on_change: called with each change that must outlive the process: (kind, data), see `journal`.
        now: monotonic clock.
    """

    def __init__(
        self,
        config: AgentsConfig,
        groups: dict[str, GroupConfig],
        on_change: Callable[[str, dict[str, Any]], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._groups = groups
        self._on_change = on_change
        self._now = now
        self._agents: dict[str, Agent] = {}
        self._channels: dict[str, dict[str, None]] = {}  # members in joining order, one at least
        self._memberships: dict[str, set[str]] = {}  # the same by agent

    # -- agents

    def __len__(self) -> int:
        return len(self._agents)

    def __iter__(self):
        return iter(self._agents.values())

    def get(self, agent_id: str) -> Agent | None:
        return self._agents.get(agent_id)

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
        """Register an agent, or take over a live id with its old secret or its group's password.

        Args:
            password_hash: SHA-256 (hex) of the password of the group it wants to join.
            secret: the old one, of an agent that takes its id over.
            retake: that secret was checked already.
            trusted: the request comes from inside: any group, no password.
            manages: permissions of somebody who manages agents (None: it does not): it needs no password for a group, and
                no secret for a live id, whose permissions are all among its own. More than it has it cannot give itself.

        Returns:
            the agent and its new secret.

        Raises:
            Refusal: id_taken, unauthenticated, forbidden, bad_input, no_such_group or overloaded; nothing has changed.
        """
        check_agent_id(agent_id)
        metadata, packed = _keepable(metadata)
        present = self._agents.get(agent_id)
        assigned = self._assign_group(group, password_hash, trusted, manages)
        if present is not None:
            if not (trusted or retake):
                self._check_retake(present, secret, password_hash, manages)
            if assigned is None:
                assigned = present.group
        elif len(self._agents) >= self._config.max_agents:
            raise Refusal(f"{len(self._agents)} agents are registered; the network takes no more", code=Code.OVERLOADED)
        new_secret = secrets.token_urlsafe(32)
        agent = Agent(agent_id, metadata, assigned, hash_secret(new_secret), time.time(), self._now(), time.time())
        if present is not None:  # the same agent, back again: what waits for it is still its own
            agent.inbox, agent.subscriptions, agent.dropped = present.inbox, present.subscriptions, present.dropped
        self._save(agent, packed)
        self._agents[agent_id] = agent
        if present is not None and present.arrival is not None:
            present.arrival.set()  # who polls with the old secret goes home
        return agent, new_secret

    def restore(self, agents: Iterable[Agent], channels: dict[str, list[str]]) -> None:
        """Take what the journal kept: agents outlive a restart with their secrets, groups and channels."""
        for agent in agents:
            agent.last_seen = self._now()
            self._agents[agent.agent_id] = agent
        for name, members in channels.items():
            for agent_id in members:
                if agent_id in self._agents:
                    self._enter(name, agent_id)

    def unregister(self, agent_id: str) -> Agent | None:
        """Forget an agent and its memberships; None if there is none of that id."""
        agent = self._agents.pop(agent_id, None)
        if agent is None:
            return None
        for name in list(self._memberships.get(agent_id, ())):
            self._exit(name, agent_id)
        self._on_change("unregister", {"agent_id": agent_id})
        if agent.arrival is not None:
            agent.arrival.set()
        return agent

    def authenticate(self, agent_id: str, secret: str | None) -> Agent | None:
        """The agent if ``secret`` is its secret; counts as a sign of life."""
        agent = self._agents.get(agent_id)
        if agent is None or not secret or not hmac.compare_digest(agent.secret_hash, hash_secret(secret)):
            return None
        self.seen(agent)
        return agent

    def seen(self, agent: Agent) -> None:
        agent.last_seen, agent.last_seen_at = self._now(), time.time()

    def expired(self) -> list[str]:
        """Ids of agents not seen for longer than the configured time."""
        if self._config.expire_after is None:
            return []
        limit = self._now() - self._config.expire_after
        return [agent.agent_id for agent in self._agents.values() if agent.last_seen < limit and not agent.polling]

    def permissions_of(self, agent: Agent) -> frozenset[str]:
        group = self._groups.get(agent.group) if agent.group is not None else None
        return group.permissions if group is not None else frozenset()

    def use_groups(self, groups: dict[str, GroupConfig], config: AgentsConfig) -> None:
        """Take changed groups and limits of a reloaded network file."""
        self._groups, self._config = groups, config

    def members_of_groups(self) -> dict[str, list[str]]:
        """Group name to the ids of its registered members, configured groups without members included."""
        members: dict[str, list[str]] = {name: [] for name in self._groups}
        for agent in self._agents.values():
            if agent.group is not None:
                members.setdefault(agent.group, []).append(agent.agent_id)
        return members

    def _assign_group(
        self, name: str | None, password_hash: str | None, trusted: bool, manages: frozenset[str] | None
    ) -> str | None:
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
            raise Refusal("the password belongs to no agent group", code=Code.UNAUTHENTICATED)
        return self._config.default_group

    def _check_may_join(self, group: GroupConfig, password_hash: str | None, manages: frozenset[str] | None) -> None:
        if manages is not None and not password_hash:
            if more := group.permissions - manages:
                raise Refusal(
                    f"agent_group {group.name!r} may do more than you ({_listed(more)}); it takes its password",
                    code=Code.FORBIDDEN,
                )
        elif group.password_hash is None:
            if group.permissions:  # else anybody could help himself to them
                raise Refusal(
                    f"agent_group {group.name!r} has permissions and no password; it can only be assigned from inside",
                    code=Code.FORBIDDEN,
                )
        elif not _same(group.password_hash, password_hash):
            raise Refusal(f"wrong password for agent_group {group.name!r}", code=Code.UNAUTHENTICATED)

    def _check_retake(
        self, agent: Agent, secret: str | None, password_hash: str | None, manages: frozenset[str] | None
    ) -> None:
        if secret and hmac.compare_digest(agent.secret_hash, hash_secret(secret)):
            return
        group = self._groups.get(agent.group) if agent.group is not None else None
        if group is not None and _same(group.password_hash, password_hash):
            return
        if manages is None:
            raise Refusal(
                f"agent id {agent.agent_id!r} is taken by a live agent; unregister it with its secret, register with that "
                "secret or its group's password, or choose another id",
                code=Code.ID_TAKEN,
            )
        if more := self.permissions_of(agent) - manages:
            raise Refusal(
                f"agent {agent.agent_id!r} may do more than you ({_listed(more)}); its id takes its secret or its group's "
                "password",
                code=Code.FORBIDDEN,
            )

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

    # -- subscriptions

    def subscribe(self, agent: Agent, patterns: list[str], channels: list[str]) -> Subscription:
        """Restrict what the agent gets to events matching one of its subscriptions; raises `InvalidEvent` or `Refusal`."""
        if len(agent.subscriptions) >= MAX_SUBSCRIPTIONS:
            raise Refusal(f"{len(agent.subscriptions)} subscriptions; at most {MAX_SUBSCRIPTIONS} per agent")
        subscription = Subscription(
            uuid.uuid4().hex,
            tuple(check_pattern(pattern) for pattern in patterns),
            frozenset(channel.removeprefix("channel:") for channel in channels),
        )
        agent.subscriptions[subscription.subscription_id] = subscription
        return subscription

    # -- channels

    def channels(self) -> list[str]:
        return list(self._channels)

    def channel_members(self, channel: str) -> list[str] | None:
        """Agent ids in joining order, None for an unknown channel."""
        members = self._channels.get(channel)
        return None if members is None else list(members)

    def join(self, channel: str, agent_id: str) -> None:
        """Make an agent a member; the channel is made if it is new.

        Raises:
            Refusal: no_such_agent, or overloaded: `MAX_CHANNELS` exist, or the agent is in `MAX_MEMBERSHIPS` of them.
        """
        parse_address(f"{CHANNEL}:{channel}")
        if agent_id not in self._agents:
            raise Refusal(f"no agent {agent_id!r} is registered", code=Code.NO_SUCH_AGENT)
        joined = self._memberships.get(agent_id, ())
        if channel in joined:
            return
        if len(joined) >= MAX_MEMBERSHIPS:
            raise Refusal(
                f"agent {agent_id!r} is in {MAX_MEMBERSHIPS} channels, the most there may be; leave one first",
                code=Code.OVERLOADED,
            )
        if channel not in self._channels and len(self._channels) >= MAX_CHANNELS:
            raise Refusal(f"{MAX_CHANNELS} channels exist; the network takes no more", code=Code.OVERLOADED)
        self._enter(channel, agent_id)
        self._on_change("join", {"channel": channel, "agent_id": agent_id})

    def leave(self, channel: str, agent_id: str) -> None:
        """End a membership; with its last member a channel is gone.

        Raises:
            Refusal: no_such_channel. Not being a member is fine.
        """
        members = self._channels.get(channel)
        if members is None:
            raise Refusal(f"no channel {channel!r}", code=Code.NO_SUCH_CHANNEL)
        if agent_id in members:
            self._exit(channel, agent_id)

    def remove_channel(self, channel: str) -> None:
        """Remove a channel with all memberships; raises `Refusal` if it is unknown."""
        members = self._channels.get(channel)
        if members is None:
            raise Refusal(f"no channel {channel!r}", code=Code.NO_SUCH_CHANNEL)
        for agent_id in list(members):
            self._forget(channel, agent_id)
        self._on_change("remove_channel", {"channel": channel})

    def _enter(self, channel: str, agent_id: str) -> None:
        self._channels.setdefault(channel, {})[agent_id] = None
        self._memberships.setdefault(agent_id, set()).add(channel)

    def _exit(self, channel: str, agent_id: str) -> None:
        self._forget(channel, agent_id)
        self._on_change("leave", {"channel": channel, "agent_id": agent_id})

    def _forget(self, channel: str, agent_id: str) -> None:
        """End a membership; neither a channel without members nor an agent without channels takes room."""
        members, joined = self._channels[channel], self._memberships[agent_id]
        del members[agent_id]
        joined.discard(channel)
        if not members:
            del self._channels[channel]
        if not joined:
            del self._memberships[agent_id]

    # -- delivery

    def deliver(self, event: Event, destination: Address) -> Delivery:
        """Put one private copy of ``event`` into every inbox it is for, never the sender's own for a group of agents.

        Raises:
            Refusal: no_such_agent, no_such_channel, no_such_group, or inbox_full for a single agent.

        ``visibility`` ``mod_only`` reaches no inbox, ``restricted`` those of ``allowed_agents`` (None: of nobody).
        """
        if event.visibility == "mod_only":
            return Delivery(0)
        if destination.role == AGENT and destination.id != BROADCAST:
            return self._deliver_to_one(event, destination.id)
        return self._deliver_to_many(event, destination)

    def _deliver_to_one(self, event: Event, agent_id: str) -> Delivery:
        agent = self._agents.get(agent_id)
        if agent is None:
            raise Refusal(f"no agent {agent_id!r} is registered", code=Code.NO_SUCH_AGENT)
        allowed = _allowed(event)
        if not agent.wants(event.event_name, None) or (allowed is not None and agent_id not in allowed):
            return Delivery(0)
        if not self._put(agent, event.copy(), _packed_size(event)):
            config = self._config
            raise Refusal(
                f"the inbox of agent {agent_id!r} is full ({config.inbox_size} events, {config.inbox_bytes} bytes)",
                code=Code.INBOX_FULL,
            )
        return Delivery(1)

    def tell(self, agent_id: str, event: Event) -> bool:
        """Put something of the network's own into one inbox, whatever its agent subscribes to; False if it did not get in."""
        agent = self._agents.get(agent_id)
        return agent is not None and self._put(agent, event, _packed_size(event))

    def _deliver_to_many(self, event: Event, destination: Address) -> Delivery:
        sender, allowed, reached, full = event.source_agent, _allowed(event), 0, 0
        channel = destination.id if destination.role == CHANNEL else None
        copy, size, item = event, 0, None
        most, most_bytes = self._config.inbox_size, self._config.inbox_bytes
        for agent in self._receivers(destination):
            if (
                agent.agent_id == sender
                or (allowed is not None and agent.agent_id not in allowed)
                or (agent.subscriptions and not agent.wants(event.event_name, channel))
            ):
                continue
            if item is None:  # the inboxes share it; polling copies it for each receiver
                item = copy, size = event.copy(), _packed_size(event)
                most_bytes -= size
            inbox = agent.inbox
            # What `_put` does for nearly all of them, without calling it: a thousand inboxes take a fifth of the time.
            if agent.arrival is None and len(inbox.events) < most and inbox.size <= most_bytes:
                inbox.events.append(item)
                inbox.size += size
                reached += 1
            elif self._put(agent, copy, size):
                reached += 1
            else:
                full += 1
        return Delivery(reached, full)

    def _receivers(self, destination: Address) -> Iterable[Agent]:
        if destination.role == AGENT:
            return self._agents.values()
        if destination.role == GROUP:
            if destination.id not in self._groups:
                raise Refusal(f"no agent group {destination.id!r}", code=Code.NO_SUCH_GROUP)
            return (agent for agent in self._agents.values() if agent.group == destination.id)
        members = self._channels.get(destination.id)
        if members is None:
            raise Refusal(f"no channel {destination.id!r}", code=Code.NO_SUCH_CHANNEL)
        return (agent for agent_id in members if (agent := self._agents.get(agent_id)) is not None)

    def _put(self, agent: Agent, event: Event, size: int) -> bool:
        """Into the inbox; when it is full the oldest go, or the event is refused, as configured."""
        config, inbox = self._config, agent.inbox
        if size > config.inbox_bytes:  # making room would not help
            agent.dropped += 1
            return False
        while len(inbox) >= config.inbox_size or inbox.size + size > config.inbox_bytes:
            agent.dropped += 1
            if config.inbox_policy == "reject":
                return False
            inbox.popleft()
        inbox.append(event, size)
        if agent.arrival is not None:
            agent.arrival.set()
        return True

    async def poll(self, agent: Agent, wait: float = 0.0, limit: int | None = None) -> list[Event]:
        """Take the oldest events out of an inbox, each a copy of its own; waits up to ``wait`` seconds for the first.

        Nothing if ``agent`` is no longer who has the id: its inbox belongs to the agent that registered anew.
        """
        self.seen(agent)
        if not agent.inbox and wait > 0:
            await self._arrival(agent, wait)
            self.seen(agent)
        if self._agents.get(agent.agent_id) is not agent:
            return []
        count = len(agent.inbox) if limit is None else min(limit, len(agent.inbox))
        return [agent.inbox.popleft().copy() for _ in range(count)]

    async def _arrival(self, agent: Agent, wait: float) -> None:
        agent.arrival = agent.arrival or asyncio.Event()
        agent.arrival.clear()
        agent.polling += 1
        try:
            async with asyncio.timeout(wait):
                await agent.arrival.wait()
        except TimeoutError:
            pass
        finally:
            agent.polling -= 1


def hash_secret(secret: str) -> bytes:
    """A plain SHA-256 is enough for a random secret of 256 bits: there is nothing to guess."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _same(expected: str | None, given: str | None) -> bool:
    """Whether two hashes in hexadecimal are the same, told in constant time. ``given`` may be any text."""
    if not expected or not given:
        return False
    # As bytes: compare_digest takes no text beyond ASCII.
    ours, theirs = (text.lower().encode("utf-8", "surrogatepass") for text in (expected, given))
    return hmac.compare_digest(ours, theirs)


def _keepable(metadata: Any) -> tuple[dict[str, Any], bytes]:
    """Metadata as a restart will give it back, and packed for the journal; raises `Refusal` if it cannot be kept."""
    if type(metadata) is not dict:
        raise Refusal(f"metadata: expected a mapping, got {type(metadata).__name__}")
    try:
        packed = pack(metadata)
        return unpack(packed), packed
    except (Unserializable, RemoteProtocolError) as error:
        raise Refusal(f"metadata: {error}") from None


def _packed_size(event: Event) -> int:
    """About how many bytes an event takes: those of its msgpack form, or of its text if it has none."""
    data = event.to_dict()
    try:
        return len(pack(data))
    except Unserializable:  # nothing a mod could get; an agent still may
        return len(repr(data))


def _allowed(event: Event) -> frozenset[str] | None:
    """Ids of the only agents that may get the event; None: everybody."""
    if event.visibility != "restricted":
        return None
    return frozenset(agent.removeprefix(f"{AGENT}:") for agent in event.allowed_agents or ())


def _listed(permissions: frozenset[str]) -> str:
    return ", ".join(sorted(permissions))
