"""Keep one mod alive: the table of states, the restart policy, its incarnations, reload and trial.

May import: the rooms below it (`calls`, `journal`, `sources`, `limits`, `process`, `config`) and `ipc`.
Never: knows other mods, agents or routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .incarnation import CancelHandler, Incarnation, StartFailed
    from .keeper import Keeper, Surroundings
    from .probation import Probation
    from .reload import ReloadFailed, activate, failing_at, give, replace_worker, revert
    from .states import COMING_BACK, DOWN, State
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        incarnation="CancelHandler Incarnation StartFailed",
        keeper="Keeper Surroundings",
        probation="Probation",
        reload="ReloadFailed activate failing_at give replace_worker revert",
        states="COMING_BACK DOWN State",
    )
