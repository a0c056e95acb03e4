"""Where the agents and channels of a network are kept: the seam below the registry.

A network on one machine keeps them in its journal. A network of several nodes keeps them where all
nodes see them (`cluster.agents.store`). Both pass one contract suite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class AgentStore(Protocol):
    """Keeps the changes of agents, channels and invites. `Journal` is one."""

    def record(self, kind: str, data: dict[str, Any]) -> None:
        """Keep a change soon, in the order of the calls. One that cannot be kept is logged.

        Args:
            kind: register, returned, unregister, join, leave, private, open, remove_channel, invite,
                spend_invite or revoke_invite.
            data: its parameters, with ``metadata`` packed.
        """
        ...

    def together(self, what: str, change: Callable[[], T]) -> tuple[T, asyncio.Future[None]]:
        """Run ``change``, and keep all that it records, or nothing of it.

        Args:
            change: calls `record`. It must not wait.

        Returns:
            What ``change`` returned, and a future that is done when all is kept. The future raises a
            `ModvisorError` if nothing of it is.

        Raises:
            What ``change`` raises; nothing is kept then.
        """
        ...
