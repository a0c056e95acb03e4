"""What an agent may know of other agents and of channels."""

from __future__ import annotations

from ...ipc.errors import Code
from ..config import GROUP
from .agent import Agent
from .channels import Channels, no_such_channel
from .rights.refusal import Refusal


def known_to(viewer: Agent, agents: Channels) -> list[Agent]:
    """Return the agents that ``viewer`` may know of: itself, and what `agents.directory` says."""
    if viewer.rights.knows_all:
        return list(agents)
    near = _near(viewer, agents)
    return [agent for agent in agents if agent.agent_id in near or _knows(viewer, agent)]


def known_by(agent: Agent, agents: Channels) -> list[str] | None:
    """Return the ids of those that may know of an agent; None: all agents may."""
    if all(viewer.rights.knows_all for viewer in agents):
        return None
    near = _near(agent, agents)
    return [viewer.agent_id for viewer in agents if _knows(viewer, agent) or viewer.agent_id in near]


def _near(agent: Agent, agents: Channels) -> set[str]:
    """Return the ids of all that are in a channel with an agent, and its own."""
    found = {agent.agent_id}
    for channel in agents.channels_of(agent.agent_id):
        found.update(agents.channel_members(channel) or ())
    return found


def _knows(viewer: Agent, agent: Agent) -> bool:
    """Return whether an agent may know of another one, whatever channels they are in."""
    rights = viewer.rights
    return rights.knows_all or (rights.directory == GROUP and viewer.group is not None and agent.group == viewer.group)


def channels_known_to(viewer: Agent, agents: Channels) -> list[str]:
    """Return the open channels, and the private ones that ``viewer`` may see."""
    return [channel for channel in agents.channels() if may_see(viewer, channel, agents)]


def members_known_to(viewer: Agent, channel: str, agents: Channels) -> list[str]:
    """Return the members of a channel that ``viewer`` may know of. A member knows all members.

    Raises:
        Refusal: no_such_channel.
    """
    members = agents.channel_members(channel)
    if members is None or not may_see(viewer, channel, agents):
        raise no_such_channel(channel)
    if viewer.rights.knows_all or viewer.agent_id in members:
        return members
    known = {agent.agent_id for agent in known_to(viewer, agents)}
    return [member for member in members if member in known]


def may_see(viewer: Agent, channel: str, agents: Channels) -> bool:
    """Return whether a channel exists as far as ``viewer`` knows."""
    if channel not in agents.private or "channels" in viewer.rights.permissions:
        return True
    return agents.is_member(channel, viewer.agent_id)


def check_sees(viewer: Agent, channel: str, agents: Channels) -> None:
    """Raise `Refusal` as if the channel did not exist, if ``viewer`` may not know of it."""
    if not may_see(viewer, channel, agents):
        raise no_such_channel(channel)


def check_may_add(viewer: Agent, agent_id: str, channel: str, agents: Channels) -> None:
    """Raise `Refusal` unless an agent without the permission `channels` may add this agent.

    It may join an open channel itself; to a private one a member may add others.
    """
    is_other = agent_id != viewer.agent_id
    if channel in agents.private:
        check_sees(viewer, channel, agents)
        if is_other:
            agents.check_invitation(agent_id)
    elif is_other:
        raise _not_without_permission(viewer, agent_id)


def check_may_take_out(viewer: Agent, agent_id: str, channel: str, agents: Channels) -> None:
    """Raise `Refusal` unless an agent without the permission `channels` may take this agent out.

    It may leave itself; whoever made a private channel and is still in it may take out others.
    """
    check_sees(viewer, channel, agents)
    if agent_id != viewer.agent_id and not _is_maker(viewer, channel, agents):
        raise _not_without_permission(viewer, agent_id)


def _is_maker(viewer: Agent, channel: str, agents: Channels) -> bool:
    return agents.private.get(channel) == viewer.agent_id and agents.is_member(channel, viewer.agent_id)


def _not_without_permission(viewer: Agent, agent_id: str) -> Refusal:
    return Refusal(
        f"agent {viewer.agent_id!r} may not change in which channels agent {agent_id!r} is: that needs the "
        "permission 'channels'",
        code=Code.FORBIDDEN,
    )


def check_may_send_to(sender: Agent, channel: str, agents: Channels) -> None:
    """Raise `Refusal` as if the channel did not exist, if it is private and the sender no member."""
    if channel in agents.private and not agents.is_member(channel, sender.agent_id):
        raise no_such_channel(channel)
