"""The agents and channels of a network, and the way of an event into inboxes and out of them.

`Inboxes` holds the agents that are registered, whoever they are. How an agent registers, proves
itself and gets permissions is the other half: `registry.AgentRegistry`, built on this one.

Delivery is the hot path. An event is copied and measured once for all its receivers, and each
poll copies it again, so that no agent shares an event with another one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ...ipc.address import AGENT, BROADCAST, CHANNEL, GROUP, SYSTEM, Address, parse_address
from ...ipc.errors import Code, Unserializable
from ...ipc.event import Event
from ...ipc.messages import pack
from ..config import AgentsConfig, GroupConfig
from .agent import Agent
from .inbox import Losses
from .refusal import Refusal
from .subscriptions import SubscriptionIndex

MAX_POLL_WAIT = 60.0  # seconds that one poll may wait for an event
MAX_CHANNELS = 10_000  # in the network: the journal and the lists hold every channel
MAX_MEMBERSHIPS = 1000  # channels of one agent, so that no agent alone can use up MAX_CHANNELS


T = TypeVar("T")


class Commit(Protocol):
    """Runs a change, and tells when it is on disk; see `Journal.together`."""

    def __call__(self, what: str, change: Callable[[], T]) -> tuple[T, asyncio.Future[None]]: ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """How many inboxes took an event, and how many refused it because they were full."""

    reached: int
    full: int = 0


class Inboxes:
    """The registered agents, the channels, and the events that wait in each inbox.

    Args:
        on_change: called as (kind, data) with each change that must outlive the process. The
            journal stores it.
        now: a monotonic clock.
        commit: runs a change, and returns its result and a future. The future is done when all that
            the change told ``on_change`` is on disk, and raises if it is not. None: nothing is on
            disk.
    """

    def __init__(
        self,
        config: AgentsConfig,
        groups: dict[str, GroupConfig],
        on_change: Callable[[str, dict[str, Any]], None],
        now: Callable[[], float] = time.monotonic,
        commit: Commit | None = None,
    ) -> None:
        self._commit = commit
        self._undo: list[Callable[[], object]] | None = None  # steps that take back the change that `kept` makes
        self._config = config
        self._groups = groups
        self._on_change = on_change
        self._now = now
        self._agents: dict[str, Agent] = {}
        self._channels: dict[str, dict[str, None]] = {}  # name -> members in joining order
        self._memberships: dict[str, set[str]] = {}  # agent id -> names of its channels
        self._subscribed = SubscriptionIndex()

    def __len__(self) -> int:
        return len(self._agents)

    def __iter__(self) -> Iterator[Agent]:
        return iter(self._agents.values())

    def get(self, agent_id: str) -> Agent | None:
        return self._agents.get(agent_id)

    def seen(self, agent: Agent) -> None:
        """Note that the agent is alive, which puts off its expiry."""
        agent.last_seen, agent.last_seen_at = self._now(), time.time()

    # -- channels

    def channels(self) -> list[str]:
        return list(self._channels)

    def channel_members(self, channel: str) -> list[str] | None:
        """Return the agent ids in joining order, None for an unknown channel."""
        members = self._channels.get(channel)
        return None if members is None else list(members)

    async def kept(self, change: Callable[[], T]) -> T:
        """Make a change of agents or channels, and return its result when it is on disk.

        Raises:
            What ``change`` raises. JournalError: it could not be kept, so it was taken back.
        """
        if self._commit is None:
            return change()
        undo: list[Callable[[], object]] = []

        def settle(saved: asyncio.Future[None]) -> None:
            if not saved.cancelled() and saved.exception() is not None:
                _run_backwards(undo)

        self._undo = undo
        try:
            result, saved = self._commit("agents", change)
        except BaseException:
            _run_backwards(undo)
            raise
        finally:
            self._undo = None
        saved.add_done_callback(settle)
        await asyncio.shield(saved)  # a caller that gives up changes nothing: the change is on its way
        return result

    def _can_undo(self, step: Callable[[], object]) -> None:
        if self._undo is not None:
            self._undo.append(step)

    def join(self, channel: str, agent_id: str) -> None:
        """Make an agent a member of a channel, which is created if it is new.

        Raises:
            InvalidEvent: the name is no name of a channel.
            Refusal: no_such_agent; or overloaded, if the network has `MAX_CHANNELS` channels or the
                agent is in `MAX_MEMBERSHIPS` of them.
        """
        parse_address(f"{CHANNEL}:{channel}")
        if agent_id not in self._agents:
            raise no_such_agent(agent_id)
        joined = self._memberships.get(agent_id, ())
        if channel in joined:
            return
        if len(joined) >= MAX_MEMBERSHIPS:
            raise Refusal(
                f"agent {agent_id!r} is in {MAX_MEMBERSHIPS} channels, which is the most; leave one first",
                code=Code.OVERLOADED,
            )
        if channel not in self._channels and len(self._channels) >= MAX_CHANNELS:
            raise Refusal(f"the network has {MAX_CHANNELS} channels, which is the most", code=Code.OVERLOADED)
        self._enter(channel, agent_id)
        self._on_change("join", {"channel": channel, "agent_id": agent_id})
        self._can_undo(lambda: self._leave_again(channel, agent_id))

    def leave(self, channel: str, agent_id: str) -> None:
        """End a membership. A channel goes away with its last member.

        Raises:
            Refusal: no_such_channel. It is no error if the agent is not a member.
        """
        if agent_id in self._members_of(channel):
            self._exit(channel, agent_id)

    def remove_channel(self, channel: str) -> None:
        """Remove a channel and all its memberships; raises `Refusal` (no_such_channel)."""
        members = list(self._members_of(channel))
        for agent_id in members:
            self._forget(channel, agent_id)
        self._on_change("remove_channel", {"channel": channel})
        self._can_undo(lambda: [self._enter_again(channel, agent_id) for agent_id in members])

    def _members_of(self, channel: str) -> dict[str, None]:
        members = self._channels.get(channel)
        if members is None:
            raise _no_such_channel(channel)
        return members

    def _enter(self, channel: str, agent_id: str) -> None:
        self._channels.setdefault(channel, {})[agent_id] = None
        self._memberships.setdefault(agent_id, set()).add(channel)

    def _exit(self, channel: str, agent_id: str) -> None:
        self._forget(channel, agent_id)
        self._on_change("leave", {"channel": channel, "agent_id": agent_id})
        self._can_undo(lambda: self._enter_again(channel, agent_id))

    def _leave_again(self, channel: str, agent_id: str) -> None:
        if agent_id in self._channels.get(channel, ()):
            self._forget(channel, agent_id)

    def _enter_again(self, channel: str, agent_id: str) -> None:
        if agent_id in self._agents:
            self._enter(channel, agent_id)

    def _forget(self, channel: str, agent_id: str) -> None:
        """End a membership. Keep no channel without members and no agent without channels."""
        members, joined = self._channels[channel], self._memberships[agent_id]
        del members[agent_id]
        joined.discard(channel)
        if not members:
            del self._channels[channel]
        if not joined:
            del self._memberships[agent_id]

    # -- into inboxes

    def deliver(self, event: Event, destination: Address, source: str | None = None) -> Delivered:
        """Put an event into the inbox of each agent that it is for.

        Args:
            source: whose share of the inboxes the event takes; None: its sender's.

        The sender never receives its own channel, group or broadcast event. An event with the
        visibility `mod_only` reaches no inbox. A `restricted` event reaches only the agents in its
        `allowed_agents` (None: no agent).

        Raises:
            Refusal: no_such_agent, no_such_channel or no_such_group; inbox_full for a single agent.
        """
        if event.visibility == "mod_only":
            return Delivered(0)
        source = source_of(event) if source is None else source
        if destination.role == AGENT and destination.id != BROADCAST:
            return self._deliver_to_one(event, destination.id, source)
        return self._deliver_to_many(event, destination, source)

    def tell(self, agent_id: str, event: Event) -> bool:
        """Put an event of the network's own into one inbox, whatever the agent subscribes to.

        Returns:
            False if the agent is gone or its inbox is full.
        """
        agent = self._agents.get(agent_id)
        return agent is not None and self._put(agent, event, packed_size(event), source_of(event))

    def _deliver_to_one(self, event: Event, agent_id: str, source: str) -> Delivered:
        agent = self._agents.get(agent_id)
        if agent is None:
            raise no_such_agent(agent_id)
        allowed = _allowed(event)
        if allowed is not None and agent_id not in allowed:
            return Delivered(0)
        if agent.subscriptions and agent_id not in self._subscribed.wanting(event.event_name, None):
            return Delivered(0)
        if not self._put(agent, event.copy(), packed_size(event), source):
            config = self._config
            raise Refusal(
                f"the inbox of agent {agent_id!r} is full ({config.inbox_size} events, {config.inbox_bytes} bytes)",
                code=Code.INBOX_FULL,
            )
        return Delivered(1)

    def _deliver_to_many(self, event: Event, destination: Address, source: str) -> Delivered:
        sender, allowed, reached, full = event.source_agent, _allowed(event), 0, 0
        channel = destination.id if destination.role == CHANNEL else None
        copy, size, item = event, 0, None
        wanting = self._subscribed.wanting(event.event_name, channel)
        most, most_bytes = self._config.inbox_size, self._config.inbox_bytes
        for agent in self._receivers(destination):
            if (
                agent.agent_id == sender
                or (allowed is not None and agent.agent_id not in allowed)
                or (agent.subscriptions and agent.agent_id not in wanting)
            ):
                continue
            if item is None:  # the inboxes share this copy, and each poll copies it again
                copy, size = event.copy(), packed_size(event)
                item = copy, size, source
                most_bytes -= size
            inbox = agent.inbox
            # Nearly every receiver takes this branch. It does what `_put` does without the call:
            # a thousand inboxes then take a fifth of the time.
            if agent.arrival is None and len(inbox.events) < most and inbox.size <= most_bytes:
                inbox.events.append(item)
                inbox.size += size
                reached += 1
            elif self._put(agent, copy, size, source):
                reached += 1
            else:
                full += 1
        return Delivered(reached, full)

    def _receivers(self, destination: Address) -> Iterable[Agent]:
        if destination.role == AGENT:
            return self._agents.values()
        if destination.role == GROUP:
            if destination.id not in self._groups:
                raise Refusal(f"no agent group {destination.id!r}", code=Code.NO_SUCH_GROUP)
            return (agent for agent in self._agents.values() if agent.group == destination.id)
        members = self._channels.get(destination.id)
        if members is None:
            raise _no_such_channel(destination.id)
        return (agent for agent_id in members if (agent := self._agents.get(agent_id)) is not None)

    def _put(self, agent: Agent, event: Event, size: int, source: str) -> bool:
        """Put an event into an inbox; False if the inbox refuses it.

        A full inbox drops events of the source that takes up most of it, or refuses the new event,
        as `inbox_policy` says.
        """
        if not (self._has_room(agent, size, source) if self._rejects else self._make_room(agent, size, source)):
            _lose(agent, source)
            return False
        agent.inbox.append(event, size, source)
        if agent.arrival is not None:
            agent.arrival.set()
        return True

    @property
    def _rejects(self) -> bool:
        return self._config.inbox_policy == "reject"

    def _make_room(self, agent: Agent, size: int, source: str) -> bool:
        """Drop events until an event of this size fits; False if dropping would not help."""
        inbox, most, most_bytes = agent.inbox, self._config.inbox_size, self._config.inbox_bytes
        if size > most_bytes:
            return False
        while len(inbox) >= most or inbox.size + size > most_bytes:
            _lose(agent, inbox.drop_of_heaviest(most, most_bytes, source, size))
        return True

    def _has_room(self, agent: Agent, size: int, source: str) -> bool:
        """Return whether an inbox that drops nothing takes an event of this source.

        One source can fill the inbox. The others share as much room again, of which each gets no
        more than it leaves over: however many flood an inbox, the next source finds room.
        """
        inbox, most, most_bytes = agent.inbox, self._config.inbox_size, self._config.inbox_bytes
        if len(inbox) < most and inbox.size + size <= most_bytes:
            return True
        count, held = inbox.held_by(source)
        left, left_bytes = 2 * most - len(inbox) - 1, 2 * most_bytes - inbox.size - size
        return count + 1 <= most and held + size <= most_bytes and count <= left and held <= left_bytes

    # -- out of inboxes

    async def poll(self, agent: Agent, wait: float = 0.0, limit: int | None = None) -> list[Event]:
        """Take the oldest events out of an inbox, each as a copy.

        Waits at most `wait` seconds for the first event.

        Returns nothing if another session has taken over the agent's id meanwhile: the inbox
        belongs to the new session.
        """
        self.seen(agent)
        if not agent.inbox and wait > 0:
            await self._arrival(agent, wait)
            self.seen(agent)
        if self._agents.get(agent.agent_id) is not agent:
            return []
        count = len(agent.inbox) if limit is None else min(limit, len(agent.inbox))
        return [agent.inbox.popleft().copy() for _ in range(count)]

    def take_losses(self, agent: Agent) -> Losses | None:
        """Return what the inbox lost since this was last asked; None if it lost nothing."""
        if not agent.losses.count:
            return None
        losses, agent.losses = agent.losses, Losses()
        return losses

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


def packed_size(event: Event) -> int:
    """Return about how many bytes an event takes: the size of its msgpack form."""
    data = event.to_dict()
    try:
        return len(pack(data))
    except Unserializable:  # no mod could get this event, but an agent in this process can
        return len(repr(data))


def source_of(event: Event) -> str:
    """Return whose share of an inbox or a queue an event takes.

    The worker that sent it counts, whatever name the event speaks in.
    """
    return event.via or str(event.source or f"{SYSTEM}:{SYSTEM}")


def _lose(agent: Agent, source: str) -> None:
    agent.dropped += 1
    agent.losses.add(source)


def no_such_agent(agent_id: str) -> Refusal:
    return Refusal(f"no agent {agent_id!r} is registered", code=Code.NO_SUCH_AGENT)


def _no_such_channel(channel: str) -> Refusal:
    return Refusal(f"no channel {channel!r}", code=Code.NO_SUCH_CHANNEL)


def _allowed(event: Event) -> frozenset[str] | None:
    """Return the ids of the only agents that may get the event, None for all agents."""
    if event.visibility != "restricted":
        return None
    return frozenset(agent.removeprefix(f"{AGENT}:") for agent in event.allowed_agents or ())


def _run_backwards(steps: list[Callable[[], object]]) -> None:
    for step in reversed(steps):
        step()
