"""The way of an event through the network: accepted, routed, asked about, delivered.

May import: the rooms below it and `ipc`.
Never: loads or ends a mod, answers `system.*` commands (`commands.py` does), or reads HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .answers import Answers, Memory
    from .dead_letters import DeadLetters, LetterLedger
    from .gateway import CommandHandler, Gateway
    from .mod_requests import ModRequests
    from .senders import Sender
    from .traced import TracedGateway
    from .walk import Walk
    from .ways import Ways, brief
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        answers="Answers Memory",
        dead_letters="DeadLetters LetterLedger",
        gateway="CommandHandler Gateway",
        mod_requests="ModRequests",
        senders="Sender",
        traced="TracedGateway",
        walk="Walk",
        ways="Ways brief",
    )
