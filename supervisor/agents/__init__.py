"""Who is registered, with which rights, in which channels, and what waits in each inbox.

May import: `config`, `ipc`. Its own rooms, from the ground up: `rights`, `inboxes`, the files beside them from `agent.py`
to `registry.py`, which puts them together, and `nodes`, for a network of several nodes.
Never: knows mods or their processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .agent import Agent
    from .channels import no_such_agent, no_such_channel
    from .delivery import MAX_POLL_WAIT, packed_size
    from .described import described_agent, described_channels, described_closely, described_groups
    from .directory import (
        channels_known_to,
        check_may_add,
        check_may_send_to,
        check_may_take_out,
        known_by,
        known_to,
        members_known_to,
    )
    from .inboxes.inbox import Inbox
    from .joining import Manager
    from .mirrors import Mirror
    from .nodes.moving import Luggage
    from .nodes.parcels import Parcel, Receipt
    from .nodes.shared import SharedAgents
    from .nodes.store import AgentStore
    from .registry import AgentRegistry
    from .rights.guesses import Guesses
    from .rights.hashes import hash_of
    from .rights.invites import MAX_LIFE, MAX_USES, Invite
    from .rights.operators import OperatorToken, OperatorTokens, Scope
    from .rights.refusal import Refusal
    from .rights.refusal_log import RefusalLog
    from .streams import Stream
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        {
            "inboxes.inbox": "Inbox",
            "nodes.moving": "Luggage",
            "nodes.parcels": "Parcel Receipt",
            "nodes.shared": "SharedAgents",
            "nodes.store": "AgentStore",
            "rights.guesses": "Guesses",
            "rights.hashes": "hash_of",
            "rights.invites": "Invite MAX_LIFE MAX_USES",
            "rights.operators": "OperatorToken OperatorTokens Scope",
            "rights.refusal": "Refusal",
            "rights.refusal_log": "RefusalLog",
        },
        agent="Agent",
        channels="no_such_agent no_such_channel",
        delivery="MAX_POLL_WAIT packed_size",
        described="described_agent described_channels described_closely described_groups",
        directory=(
            "channels_known_to check_may_add check_may_send_to check_may_take_out known_by known_to members_known_to"
        ),
        joining="Manager",
        mirrors="Mirror",
        registry="AgentRegistry",
        streams="Stream",
    )
