"""How much room guests may take: agents that nobody vouches for.

A guest registered from outside without a password. Anybody can make any number of them, so there
are quotas: guests of one address, and guests in all while agents with a password may come. An
agent that gives a password later, or that code inside the network registers, is no guest.

What waits for guests is bounded for all of them together, too: each may have an inbox of its own.
"""

from __future__ import annotations

from collections.abc import Collection

from ...ipc.errors import Code
from ..config import AgentsConfig
from .agent import Agent
from .inboxes.inbox import GuestMail
from .rights.refusal import Refusal


class Guests:
    """Counts the guests of a network, in all and per address.

    Attributes:
        mail: what waits for all of them.
    """

    def __init__(self) -> None:
        self.mail = GuestMail()
        self._at: dict[str, set[str]] = {}  # the ids of the guests at each address
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def check(self, config: AgentsConfig, address: str | None, *, is_shared: bool) -> None:
        """Check that there is room for one more guest.

        Args:
            address: where it comes from; None: no count per address holds.
            is_shared: whether agents with a password may come, for which room is kept.

        Raises:
            Refusal: too_many or overloaded.
        """
        present = len(self.at(address)) if address is not None else 0
        if present >= config.guests_per_address:
            raise Refusal(
                f"{present} agents without a password are registered from {address}, which is the most "
                "('agents.guests_per_address'); unregister one, or join a group with its password",
                code=Code.TOO_MANY,
            )
        if is_shared and self._count >= int(config.max_agents * config.guest_share):
            raise Refusal(
                f"the network has {self._count} agents without a password, which is the most ('agents.guest_share'); "
                "join a group with its password",
                code=Code.OVERLOADED,
            )

    def at(self, address: str) -> Collection[str]:
        """Return the ids of the guests at an address."""
        return self._at.get(address, ())

    def enter(self, agent: Agent) -> None:
        """Count an agent, if it is a guest."""
        if agent.is_guest:
            self._count += 1
            agent.inbox.count_in(self.mail)
            if agent.address is not None:
                self._at.setdefault(agent.address, set()).add(agent.agent_id)

    def leave(self, agent: Agent) -> None:
        """Count an agent no longer."""
        if agent.is_guest:
            self._count -= 1
            agent.inbox.count_in(None)
            if agent.address is not None:
                self._at[agent.address].discard(agent.agent_id)
                if not self._at[agent.address]:
                    del self._at[agent.address]
