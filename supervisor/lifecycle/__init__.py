"""Keep one mod alive: the table of states, the restart policy, its incarnations, reload and trial.

May import: the rooms below it (`calls`, `journal`, `sources`, `limits`, `process`, `config`) and `ipc`.
Never: knows other mods, agents or routes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .incarnation import CancelHandler, Incarnation, StartFailed
    from .keeper import Keeper, Shared
    from .probation import Probation
    from .reload import Reloaded, ReloadFailed, activate, failing_at, give, replace_worker, revert, version_of
    from .starting import Recipe
    from .states import COMING_BACK, DOWN, State

__getattr__ = lazily(
    __name__,
    incarnation="CancelHandler Incarnation StartFailed",
    keeper="Keeper Shared",
    probation="Probation",
    reload="ReloadFailed Reloaded activate failing_at give replace_worker revert version_of",
    starting="Recipe",
    states="COMING_BACK DOWN State",
)
