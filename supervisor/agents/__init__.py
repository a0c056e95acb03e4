"""Who is registered, with which rights, in which channels, and what waits in each inbox.

May import: `config`, `ipc`.
Never: knows mods or their processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .agent import Agent
    from .delivery import MAX_POLL_WAIT
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
    from .invites import MAX_LIFE, MAX_USES, Invite
    from .joining import Manager
    from .mirrors import Mirror
    from .operators import OperatorToken, OperatorTokens, Scope
    from .refusal import Refusal
    from .refusals import RefusalLog
    from .registry import AgentRegistry
    from .streams import Stream
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        agent="Agent",
        delivery="MAX_POLL_WAIT",
        directory=(
            "channels_known_to check_may_add check_may_send_to check_may_take_out known_by known_to members_known_to"
        ),
        guesses="Guesses",
        invites="Invite MAX_LIFE MAX_USES",
        joining="Manager",
        mirrors="Mirror",
        operators="OperatorToken OperatorTokens Scope",
        refusal="Refusal",
        refusals="RefusalLog",
        registry="AgentRegistry",
        streams="Stream",
    )
