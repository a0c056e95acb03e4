"""Keep one mod alive: the table of states, the restart policy, its incarnations, reload and trial.

May import: the rooms below it (`calls`, `journal`, `sources`, `limits`, `process`, `config`) and `ipc`.
Never: knows other mods, agents or routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .handover import Reloaded, ReloadFailed, activate, failing_at, give, rest, resume, version_of
    from .incarnation import CancelHandler, Incarnation
    from .keeper import Keeper
    from .listener import Shared
    from .reload import replace_worker, revert
    from .restart_policy import RestartHistory
    from .spares import Spares
    from .start_order import StartFailed
    from .starting import LeaseOf, Recipe, naming
    from .states import COMING_BACK, DOWN, State
    from .trial import Probation
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        handover="ReloadFailed Reloaded activate failing_at give rest resume version_of",
        incarnation="CancelHandler Incarnation",
        keeper="Keeper",
        listener="Shared",
        reload="replace_worker revert",
        restart_policy="RestartHistory",
        spares="Spares",
        start_order="StartFailed",
        starting="LeaseOf Recipe naming",
        states="COMING_BACK DOWN State",
        trial="Probation",
    )
