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
    from .guesses import Guesses
    from .mirrors import Mirror
    from .operators import OperatorToken, OperatorTokens, Scope
    from .refusal import Refusal
    from .refusals import RefusalLog
    from .registry import AgentRegistry
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        agent="Agent",
        delivery="MAX_POLL_WAIT",
        guesses="Guesses",
        mirrors="Mirror",
        operators="OperatorToken OperatorTokens Scope",
        refusal="Refusal",
        refusals="RefusalLog",
        registry="AgentRegistry",
    )
