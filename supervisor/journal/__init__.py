"""What outlives the supervisor, on disk: agents, channels, loaded mods, durable events, dead
letters, checkpoints.

May import: `agents`, `config`, `ipc`.
Never: decides what is kept; the rooms above it call it, and it writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .backup import copy_database
    from .deaths import BOOT_ID, IN_TURN, LAST, LAST_ALONE, UNPROVEN, Begun, BegunTogether, Record
    from .history import JournalAtRest
    from .journal import Journal
    from .records import (
        AnsweredBefore,
        Checkpoint,
        DeadLetter,
        DurableEvent,
        JournalError,
        KeptMod,
        LastRun,
        LetterHead,
        Quarantine,
    )
    from .state_dir import StateDir, StateDirBusy
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        backup="copy_database",
        deaths="BOOT_ID Begun BegunTogether IN_TURN LAST LAST_ALONE Record UNPROVEN",
        history="JournalAtRest",
        journal="Journal",
        records="AnsweredBefore Checkpoint DeadLetter DurableEvent JournalError KeptMod LastRun LetterHead Quarantine",
        state_dir="StateDir StateDirBusy",
    )
