"""The channels of the network as one mod sees them, changes of its own included at once.

What the core has told is the truth. On top of it lie the mod's own calls that the core has not
answered yet, in order: so a mod sees its own call at once, and a refused one is undone by being
dropped. The core tells a change before it answers the call.

The core knows no empty channels, and only registered agents join one. Their network lets a mod
create a channel, and add any name to it. Both are kept here alone: an empty channel is one of this
mod, and a name is *wanted* until an agent of that name registers, whose join is sent then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

JOIN, LEAVE, CLOSE = "join", "leave", "close"


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """A change that the mod wants. ``agent_id`` is None if the whole channel is to be closed."""

    do: str
    channel: str
    agent_id: str | None = None

    def apply_to(self, members: dict[str, None]) -> None:
        if self.agent_id is None:
            members.clear()
        elif self.do == LEAVE:
            members.pop(self.agent_id, None)
        else:
            members[self.agent_id] = None

    def is_true_of(self, members: dict[str, None]) -> bool:
        """Return whether ``members`` are as this call wants them."""
        return not members if self.agent_id is None else (self.agent_id in members) is (self.do == JOIN)


class _Channel:
    """One channel.

    Attributes:
        told: the members that the core knows, in order of joining.
        calls: the mod's calls that lie on top, in order: sent and not answered, or wanted.
        is_created: the mod has created it, so that it exists without members.
    """

    def __init__(self) -> None:
        self.told: dict[str, None] = {}
        self.calls: dict[Call, None] = {}
        self.is_created = False
        self._members: dict[str, None] | None = {}  # what follows from both; None: to be worked out

    @property
    def members(self) -> dict[str, None]:
        """The members as the mod sees them, in order of joining."""
        members = self._members
        if members is None:
            members = dict(self.told)
            for call in self.calls:
                call.apply_to(members)
            self._members = members
        return members

    @property
    def is_nothing(self) -> bool:
        return not (self.told or self.calls or self.is_created)

    def put(self, call: Call) -> None:
        """Lay a call on top."""
        members = self.members
        self.calls[call] = None
        call.apply_to(members)

    def drop(self, call: Call) -> None:
        """Take a call away. What the core told before stays."""
        del self.calls[call]
        if not call.is_true_of(self.told):
            self._members = None

    def tell_join(self, agent_id: str) -> None:
        self.told[agent_id] = None
        if agent_id not in self.members:
            self._members = None

    def tell_leave(self, agent_id: str) -> None:
        if agent_id in self.told:
            del self.told[agent_id]
            if agent_id in self.members:
                self._members = None


class Channels:
    """The channels by name.

    Args:
        send: takes each call that is to be made to the core. `answered` follows.
        is_registered: whether the network has an agent of this id.
    """

    def __init__(self, send: Callable[[Call], None], is_registered: Callable[[str], bool]) -> None:
        self._send = send
        self._is_registered = is_registered
        self._channels: dict[str, _Channel] = {}
        self._wanted: dict[str, list[Call]] = {}  # joins that wait for an agent, by its id

    # -- what the mod asks and wants

    def exists(self, name: str) -> bool:
        channel = self._channels.get(name)
        return channel is not None and (channel.is_created or bool(channel.members))

    def members(self, name: str) -> list[str]:
        """Return the members in the order of joining, as a list of the caller's own."""
        channel = self._channels.get(name)
        return [] if channel is None else list(channel.members)

    def create(self, name: str) -> None:
        self._channel(name).is_created = True

    def add(self, name: str, agent_id: str) -> None:
        """Add a member; nothing changes if it is one. The channel is created if it does not exist."""
        self.create(name)
        channel = self._channels[name]
        if agent_id in channel.members:
            return
        call = Call(JOIN, name, agent_id)
        channel.put(call)
        if self._is_registered(agent_id):
            self._send(call)
        else:
            self._wanted.setdefault(agent_id, []).append(call)

    def remove(self, name: str, agent_id: str) -> None:
        """Remove a member. A channel that does not exist is nothing to remove it from.

        Raises:
            ValueError: the channel exists, and the agent is not in it.
        """
        if not self.exists(name):
            return
        channel = self._channels[name]
        if agent_id not in channel.members:
            raise ValueError(f"{agent_id!r} is not a member of the channel {name!r}")
        channel.is_created = True  # in their network it goes on without members
        if not self._unwant(channel, agent_id):
            self._put(channel, Call(LEAVE, name, agent_id))

    def close(self, name: str) -> None:
        """Remove a channel with all of its members; nothing changes if it does not exist."""
        if (channel := self._channels.get(name)) is None:
            return
        channel.is_created = False
        for call in list(channel.calls):
            if call.agent_id is not None:
                self._unwant(channel, call.agent_id)
        if channel.told or channel.calls:
            self._put(channel, Call(CLOSE, name))
        self._tidy(name)

    def created(self) -> dict[str, list[str]]:
        """Return the channels that the mod has made or joined agents to, with their members."""
        return {name: list(channel.members) for name, channel in self._channels.items() if channel.is_created}

    def restore(self, channels: Mapping[str, list[str]]) -> None:
        """Create again those of these channels that do not exist any more, with members that are registered."""
        for name in [name for name in channels if not self.exists(name)]:
            self.create(name)
            for agent_id in filter(self._is_registered, channels[name]):
                self.add(name, agent_id)
        for name in channels:
            self.create(name)

    def _put(self, channel: _Channel, call: Call) -> None:
        channel.put(call)
        self._send(call)

    def _unwant(self, channel: _Channel, agent_id: str) -> bool:
        """Drop a join that waits for its agent. Return whether there was one."""
        wanted = self._wanted.get(agent_id, ())
        call = next((call for call in wanted if call in channel.calls), None)
        if call is None:
            return False
        channel.drop(call)
        self._wanted[agent_id].remove(call)
        if not self._wanted[agent_id]:
            del self._wanted[agent_id]
        return True

    # -- what the core says

    def answered(self, call: Call) -> None:
        """Note that the core has made or refused a call: what it told is the truth now."""
        channel = self._channels.get(call.channel)
        if channel is not None and call in channel.calls:
            channel.drop(call)
            self._tidy(call.channel)

    def told(self, name: str, members: list[str]) -> None:
        """Add members, in order. A channel may be told in parts."""
        channel = self._channel(name)
        for member in members:
            channel.tell_join(member)

    def told_leave(self, name: str, agent_id: str) -> None:
        if (channel := self._channels.get(name)) is not None:
            channel.tell_leave(agent_id)
            self._tidy(name)

    def told_close(self, name: str) -> None:
        """Note that a channel was removed, by whomever."""
        if (channel := self._channels.get(name)) is not None:
            for member in list(channel.told):
                channel.tell_leave(member)
            channel.is_created = False
            self._tidy(name)

    def registered(self, agent_id: str) -> None:
        """Send the joins that have waited for an agent of this id."""
        for call in self._wanted.pop(agent_id, ()):
            self._send(call)

    def gone(self, agent_id: str) -> None:
        """Drop what waits for an agent that has left the network, and its memberships."""
        for call in self._wanted.pop(agent_id, ()):
            self.answered(call)
        for name in list(self._channels):
            self.told_leave(name, agent_id)

    def _channel(self, name: str) -> _Channel:
        return self._channels.setdefault(name, _Channel())

    def _tidy(self, name: str) -> None:
        """Forget a channel of which nothing is left."""
        if self._channels[name].is_nothing:
            del self._channels[name]
