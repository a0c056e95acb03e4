"""The kept sources of one mod: a copy of the last good version's code, which a restart runs.

So a restart does not pick up a half-finished edit of the working files. Sources of a version on
probation are kept beside those of the previous version until it is accepted.
"""

from __future__ import annotations

import logging

from ...ipc import messages
from ...ipc.errors import ModvisorError
from ..process import shielded
from ..sources import SourceFiles
from .incarnation import Incarnation
from .starting import Recipe

logger = logging.getLogger("modvisor.keeper")

_NONE_KEPT = "mod %s: no snapshot of its sources, restarts will read the working files: %s"


class KeptSources:
    """What is kept of one mod's code.

    Attributes:
        has_snapshot: the sources of the version that is to be restarted are kept.
        files: the files of the newest version that served; None if its worker did not report them.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.has_snapshot = False
        self.files: SourceFiles | None = None
        self._recipe = recipe

    async def keep(self, incarnation: Incarnation, *, on_trial: bool) -> bool:
        """Keep the sources of an incarnation that serves; returns whether that was possible.

        Args:
            on_trial: keep them beside those of the previous version, until `accept`.
        """
        config = incarnation.config
        self.has_snapshot = False
        try:
            modules = await incarnation.pipe.request(messages.SNAPSHOT, {}, config.limits.start_timeout)
            self._recipe.compiled.take((config.path, incarnation.home.folder), modules)
            self.files = await self._recipe.snapshots.write(
                config.mod_id, config.path, modules, incarnation.home, config.as_asked.version, on_trial=on_trial
            )
        except (ModvisorError, TimeoutError, OSError) as error:
            self.files = None
            logger.warning(_NONE_KEPT, config.mod_id, error)
            return False
        if not on_trial:  # else leave it: the previous version may serve again by now
            self.has_snapshot = True
        return True

    async def accept(self, mod_id: str) -> None:
        """Have the sources of the version on trial be those that a restart runs."""
        try:
            await self._recipe.snapshots.accept(mod_id)
            self.has_snapshot = True
        except OSError as error:
            logger.warning(_NONE_KEPT, mod_id, error)

    async def forget(self, mod_id: str) -> None:
        """Remove all that is kept under an id. Raises OSError."""
        await shielded(self._recipe.snapshots.forget(mod_id))

    async def forget_quietly(self, mod_id: str) -> None:
        """`forget`, whose failure is only logged."""
        try:
            await self._recipe.snapshots.forget(mod_id)
        except OSError as error:
            logger.warning("mod %s: its kept sources cannot be removed: %s", mod_id, error)
