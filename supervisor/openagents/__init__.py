"""The face of a network for programs that were written for OpenAgents: their names, over our network.

`modvisor.openagents` re-exports it. A program changes one import line, and its mods run in
processes of their own. docs/openagents.md says what differs.

May import: the rooms below it and `ipc`.
Never: imports openagents. Objects of theirs (configurations, events) are read by their attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .event import Event
    from .network import AgentNetwork, create_network
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(__name__, event="Event", network="AgentNetwork create_network")
