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
    from .forgetting import Forgotten, masked
    from .history import JournalAtRest
    from .journal import Journal
    from .mod_files import FileStore, JournalFiles, check_file
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
        StorageFull,
    )
    from .restoring import restore_database
    from .state_dir import StateDir, StateDirBusy, UnsafeStateDir, check_rights
    from .whole import (
        KeptAnswer,
        KeptEvent,
        KeptFile,
        KeptLetter,
        KeptState,
        Whole,
        read_whole,
        was_opened,
        write_whole,
    )
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        backup="copy_database",
        deaths="BOOT_ID Begun BegunTogether IN_TURN LAST LAST_ALONE Record UNPROVEN",
        forgetting="Forgotten masked",
        history="JournalAtRest",
        journal="Journal",
        mod_files="FileStore JournalFiles check_file",
        records=(
            "AnsweredBefore Checkpoint DeadLetter DurableEvent JournalError KeptMod LastRun LetterHead Quarantine "
            "StorageFull"
        ),
        restoring="restore_database",
        state_dir="StateDir StateDirBusy UnsafeStateDir check_rights",
        whole="KeptAnswer KeptEvent KeptFile KeptLetter KeptState Whole read_whole was_opened write_whole",
    )
