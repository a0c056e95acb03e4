"""The agents of a network and the channels that they are in, and changes of both that can be undone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol, TypeVar

from ...ipc.address import CHANNEL, parse_address
from ...ipc.errors import Code
from ..config import AgentsConfig, GroupConfig
from .agent import Agent
from .guests import Guests
from .mirrors import CLOSE, JOIN, LEAVE, Mirrors
from .rights.refusal import Refusal
from .rights.rights import Rulebook

T = TypeVar("T")

_OPEN = object()
"""Stands for the maker of a channel that is not private."""


class Commit(Protocol):
    """Runs a change, and tells when it is on disk; see `Journal.together`."""

    def __call__(self, what: str, change: Callable[[], T]) -> tuple[T, asyncio.Future[None]]: ...


class Channels:
    """The registered agents and their channels.

    Args:
        on_change: called as (kind, data) with each change that must outlive the process. The
            journal stores it.
        now: a monotonic clock.
        commit: runs a change, and returns its result and a future. The future is done when all that
            the change told ``on_change`` is on disk, and raises if it is not. None: nothing is on
            disk.

    Attributes:
        by_source: each agent by what an event may name as its source, for the way of an event.
        private: the private channels, each with the id of the agent that made it.
        mirrors: the copies of all this, which are told every change.
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
        self.by_source: dict[str | None, Agent] = {}
        self._channels: dict[str, dict[str, None]] = {}  # name -> members in joining order
        self._memberships: dict[str, set[str]] = {}  # agent id -> names of its channels
        self.private: dict[str, str | None] = {}
        self._guests = Guests()
        self._rules = Rulebook(config, groups)
        self.mirrors = Mirrors()

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

    def channels_of(self, agent_id: str) -> Collection[str]:
        """Return the names of the channels that an agent is in."""
        return self._memberships.get(agent_id, ())

    def is_member(self, channel: str, agent_id: str) -> bool:
        return agent_id in self._channels.get(channel, ())

    def channel_members(self, channel: str) -> list[str] | None:
        """Return the agent ids in joining order, None for an unknown channel."""
        members = self._channels.get(channel)
        return None if members is None else list(members)

    async def kept(self, change: Callable[[], T]) -> T:
        """Make a change of agents or channels, and return its result when it is on disk.

        Raises:
            What ``change`` raises. JournalError: it could not be kept, so it was taken back.
        """
        result, saved = self.begin(change)
        if saved is not None:
            await asyncio.shield(saved)  # a caller that gives up changes nothing: the change is on its way
        return result

    def begin(self, change: Callable[[], T]) -> tuple[T, asyncio.Future[None] | None]:
        """Make a change of agents or channels: the first half of `kept`.

        Returns:
            its result, and a future that is done when it is on disk, and raises JournalError if it
            was taken back. None: nothing is on disk.
        """
        with self.mirrors.together():
            if self._commit is None:
                return change(), None
            return self._begun(self._commit, change)

    def _begun(self, commit: Commit, change: Callable[[], T]) -> tuple[T, asyncio.Future[None]]:
        undo: list[Callable[[], object]] = []

        def settle(saved: asyncio.Future[None]) -> None:
            if not saved.cancelled() and saved.exception() is not None:
                with self.mirrors.together():
                    _run_backwards(undo)

        self._undo = undo
        try:
            result, saved = commit("agents", change)
        except BaseException:
            _run_backwards(undo)
            raise
        finally:
            self._undo = None
        saved.add_done_callback(settle)
        return result, saved

    def _can_undo(self, step: Callable[[], object]) -> None:
        if self._undo is not None:
            self._undo.append(step)

    def join(self, channel: str, agent_id: str) -> None:
        """Make an agent a member of a channel, which is created if it is new.

        Raises:
            InvalidEvent: the name is no name of a channel.
            Refusal: no_such_agent; or overloaded, if the network has `max_channels` channels or the
                agent is in `channels_per_agent` of them; or too_many, if the guests at its address
                are.
        """
        parse_address(f"{CHANNEL}:{channel}")
        if agent_id not in self._agents:
            raise no_such_agent(agent_id)
        joined = self._memberships.get(agent_id, ())
        if channel in joined:
            return
        if len(joined) >= self._config.channels_per_agent:
            raise Refusal(
                f"agent {agent_id!r} is in {len(joined)} channels, which is the most ('agents.channels_per_agent'); "
                "leave one first",
                code=Code.OVERLOADED,
            )
        if channel not in self._channels and len(self._channels) >= self._config.max_channels:
            raise Refusal(
                f"the network has {len(self._channels)} channels, which is the most ('agents.max_channels')",
                code=Code.OVERLOADED,
            )
        self._check_guest(self._agents[agent_id], channel)
        self._enter(channel, agent_id)
        self._on_change("join", {"channel": channel, "agent_id": agent_id})
        self._can_undo(lambda: self._leave_again(channel, agent_id))

    def create(self, channel: str, agent_id: str, *, private: bool = False) -> None:
        """Make a channel with one member. Only members see a private channel, and send to it.

        Raises:
            Refusal: conflict: there is a channel of this name; or as for `join`.
        """
        if channel in self._channels:  # also if it is private: the name is taken, whoever asks
            raise Refusal(f"there is a channel {channel!r} already; choose another name", code=Code.CONFLICT)
        self.join(channel, agent_id)
        if private:
            self.private[channel] = agent_id
            self._on_change("private", {"channel": channel, "created_by": agent_id, "created_at": time.time()})

    def check_invitation(self, agent_id: str) -> None:
        """Raise `Refusal` (overloaded) if an agent is in too many channels for others to add it to one more.

        What is left are channels that it joins itself: nobody can fill them up.
        """
        joined, most = len(self.channels_of(agent_id)), self._config.channels_per_agent
        if joined >= most // 2:
            raise Refusal(
                f"agent {agent_id!r} is in {joined} channels; to more than half of 'agents.channels_per_agent' "
                f"({most}) nobody can add it",
                code=Code.OVERLOADED,
            )

    def _check_guest(self, agent: Agent, channel: str) -> None:
        """Raise `Refusal` if a guest may not join one more channel."""
        if not agent.is_guest:
            return
        if agent.address is not None:
            joined = sum(len(self._memberships.get(guest, ())) for guest in self._guests.at(agent.address))
            if joined >= self._config.channels_per_agent:
                raise Refusal(
                    f"the agents without a password at {agent.address} are in {joined} channels, which is the most "
                    "('agents.channels_per_agent'); leave one first, or join a group with its password",
                    code=Code.TOO_MANY,
                )
        most = int(self._config.max_channels * self._guest_share(agent))
        if channel not in self._channels and len(self._channels) >= most:
            raise Refusal(
                f"the network has {len(self._channels)} channels, and the rest is kept for agents with a password "
                "('agents.guest_share')",
                code=Code.OVERLOADED,
            )

    _has_passwords = False  # `joining` knows better

    def _guest_share(self, agent: Agent) -> float:
        """Return which part of what all agents share together this agent may fill."""
        return self._config.guest_share if agent.is_guest and self._has_passwords else 1.0

    def leave(self, channel: str, agent_id: str) -> None:
        """End a membership. A channel goes away with its last member.

        Raises:
            Refusal: no_such_channel. It is no error if the agent is not a member.
        """
        if agent_id in self._members_of(channel):
            self._exit(channel, agent_id)

    def remove_channel(self, channel: str) -> None:
        """Remove a channel and all its memberships; raises `Refusal` (no_such_channel)."""
        members, private = list(self._members_of(channel)), self.private.get(channel, _OPEN)
        for agent_id in members:
            self._take_out(channel, agent_id)
        self.mirrors.note(CLOSE, channel)
        self._on_change("remove_channel", {"channel": channel})
        self._note_end(channel, private)
        self._can_undo(lambda: [self._enter_again(channel, agent_id, private) for agent_id in members])

    def _note_end(self, channel: str, private: Any) -> None:
        """Tell the journal if a private channel has ended: one of its name may be open."""
        if private is not _OPEN and channel not in self._channels:
            self._on_change("open", {"channel": channel})

    def _members_of(self, channel: str) -> dict[str, None]:
        members = self._channels.get(channel)
        if members is None:
            raise no_such_channel(channel)
        return members

    def _enter(self, channel: str, agent_id: str) -> None:
        self._channels.setdefault(channel, {})[agent_id] = None
        self._memberships.setdefault(agent_id, set()).add(channel)
        self.mirrors.note(JOIN, channel, agent_id)

    def _exit(self, channel: str, agent_id: str) -> None:
        private = self.private.get(channel, _OPEN)
        self._forget(channel, agent_id)
        self._on_change("leave", {"channel": channel, "agent_id": agent_id})
        self._note_end(channel, private)
        self._can_undo(lambda: self._enter_again(channel, agent_id, private))

    def _leave_again(self, channel: str, agent_id: str) -> None:
        if agent_id in self._channels.get(channel, ()):
            self._forget(channel, agent_id)

    def _enter_again(self, channel: str, agent_id: str, private: Any) -> None:
        if agent_id not in self._agents:
            return
        if private is not _OPEN and channel not in self._channels:
            self.private[channel] = private
        self._enter(channel, agent_id)

    def _forget(self, channel: str, agent_id: str) -> None:
        """End a membership."""
        self._take_out(channel, agent_id)
        self.mirrors.note(LEAVE, channel, agent_id)

    def _take_out(self, channel: str, agent_id: str) -> None:
        """End a membership, and tell nobody. Keep no channel without members and no agent without channels."""
        members, joined = self._channels[channel], self._memberships[agent_id]
        del members[agent_id]
        joined.discard(channel)
        if not members:
            del self._channels[channel]
            self.private.pop(channel, None)
        if not joined:
            del self._memberships[agent_id]


def no_such_agent(agent_id: str) -> Refusal:
    return Refusal(f"no agent {agent_id!r} is registered", code=Code.NO_SUCH_AGENT)


def no_such_channel(channel: str) -> Refusal:
    return Refusal(f"no channel {channel!r}", code=Code.NO_SUCH_CHANNEL)


def _run_backwards(steps: list[Callable[[], object]]) -> None:
    for step in reversed(steps):
        step()
