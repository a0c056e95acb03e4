"""Ids whose agents were kicked of late, and how long each of them stays away. Pure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ....ipc.errors import Code
from ...config import AgentsConfig
from .refusal import Refusal


class Kicked:
    """The kicked ids that may not register yet. A restart of the network forgets them.

    Args:
        config: returns the limits in force.
        now: a monotonic clock.
    """

    def __init__(self, config: Callable[[], AgentsConfig], now: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._now = now
        self._since: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def note(self, agent_id: str) -> None:
        """Keep this id away from now on. Ids whose time is over are forgotten."""
        self._since = {other: since for other, since in self._since.items() if self._left(since) > 0}
        self._since[agent_id] = self._now()

    def check(self, agent_id: str) -> None:
        """Raise `Refusal` (too_many) if the id must stay away for now."""
        since = self._since.get(agent_id)
        if since is not None and (left := self._left(since)) > 0:
            raise Refusal(
                f"agent {agent_id!r} was kicked; it may register again in {math.ceil(left)} s",
                code=Code.TOO_MANY,
                retry_after=math.ceil(left),
            )

    def _left(self, since: float) -> float:
        return since + (self._config().kick_cooldown or 0.0) - self._now()
