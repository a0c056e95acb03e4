"""Who is registered, with which rights, in which channels, and what waits in each inbox.

May import: `config`, `ipc`.
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
    from .guesses import Guesses
    from .hashes import hash_of
    from .inbox import Inbox
    from .invites import MAX_LIFE, MAX_USES, Invite
    from .joining import Manager
    from .mirrors import Mirror
    from .moving import Leg, Luggage
    from .operators import OperatorToken, OperatorTokens, Scope
    from .parcels import Parcel, Receipt
    from .refusal import Refusal
    from .refusals import RefusalLog
    from .registry import AgentRegistry
    from .shared import SharedAgents
    from .store import AgentStore
    from .streams import Stream
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        agent="Agent",
        channels="no_such_agent no_such_channel",
        delivery="MAX_POLL_WAIT packed_size",
        described="described_agent described_channels described_closely described_groups",
        directory=(
            "channels_known_to check_may_add check_may_send_to check_may_take_out known_by known_to members_known_to"
        ),
        guesses="Guesses",
        hashes="hash_of",
        inbox="Inbox",
        invites="Invite MAX_LIFE MAX_USES",
        joining="Manager",
        mirrors="Mirror",
        moving="Leg Luggage",
        operators="OperatorToken OperatorTokens Scope",
        parcels="Parcel Receipt",
        refusal="Refusal",
        refusals="RefusalLog",
        registry="AgentRegistry",
        shared="SharedAgents",
        store="AgentStore",
        streams="Stream",
    )
