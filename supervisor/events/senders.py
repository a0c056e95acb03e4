"""Who stands behind an event, and how an agent proves that it is itself."""

from __future__ import annotations

from dataclasses import dataclass

from ...ipc.address import AGENT, CHANNEL
from ...ipc.errors import Code, ModvisorError
from ...ipc.event import Event
from ..agents import Agent, AgentRegistry, check_may_send_to
from ..config import ModConfig

# Commands that an agent may use before it is registered.
_OPEN_COMMANDS = frozenset({"system.register_agent", "system.health_check"})


@dataclass(frozen=True, slots=True)
class Sender:
    """Who stands behind an event, as far as the network has made sure of it.

    Attributes:
        trusted: the program that runs the network, or its operator: may do anything.
        agent: the authenticated agent, if an agent sent the event.
        mod: the mod, if a worker sent it.
        address: the name under which the sender's address is counted; None: it is not counted.
    """

    trusted: bool = False
    agent: Agent | None = None
    mod: ModConfig | None = None
    address: str | None = None


INSIDE = Sender(trusted=True)


def authenticated(event: Event, agents: AgentRegistry, address: str | None = None) -> Sender:
    """Return the sender of an event from outside, which came from this address.

    Raises:
        ModvisorError: forbidden, if the source is no agent, or may not send this event;
            unauthenticated, if the secret is not the agent's; too_many, if its quota is used up;
            no_such_channel, if the event is for a private channel of others.
    """
    source = event.source
    if event.event_name in _OPEN_COMMANDS:
        if source is not None and source.role != AGENT:
            raise ModvisorError(f"an event from outside cannot speak for {source}", code=Code.FORBIDDEN)
        known = agents.authenticate(source.id, event.secret) if source else None
        return Sender(agent=known, address=address)
    if source is None or source.role != AGENT:
        who = "nobody" if source is None else str(source)
        text = f"an event from outside must come from an agent, this one comes from {who}"
        raise ModvisorError(text, code=Code.FORBIDDEN)
    agent = agents.authenticate(source.id, event.secret)
    if agent is None:
        raise ModvisorError(
            f"agent {source.id!r} is not registered or its secret is wrong; register and send the secret you get",
            code=Code.UNAUTHENTICATED,
        )
    if agent.rights.is_gated:
        agents.check_sending(agent, event)
    if agents.private and (destination := event.destination) is not None and destination.role == CHANNEL:
        check_may_send_to(agent, destination.id, agents)
    return Sender(agent=agent, address=address)
