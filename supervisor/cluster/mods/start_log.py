"""What is logged of the starts of mods that are placed: a failure once, a takeover step by step."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ...lifecycle import State

logger = logging.getLogger("modvisor.cluster")


class StartLog:
    """Logs starts. While the servers hold a mod up it is tried four times a second, and told of once."""

    def __init__(self) -> None:
        self._held_up: set[str] = set()

    def tried(self, mod_ids: Iterable[str], held_up: set[str]) -> None:
        """Take note which of the mods that were tried are tried again."""
        self._held_up.difference_update(mod_ids)
        self._held_up |= held_up

    def failed(self, mod_id: str, why: object) -> None:
        """Log why a mod did not start."""
        level = logging.DEBUG if mod_id in self._held_up else logging.ERROR
        logger.log(level, "mod %s did not start: %s", mod_id, why)

    def taken_over(self, mod_id: str, node: str, state: State, ended: float, steps: tuple[float, float, float]) -> None:
        """Log how long a mod of a node that was lost was away.

        Args:
            ended: when the session of that node ended; all times are of `time.monotonic`.
            steps: when this node began, when it had the claim, and when the start was over.
        """
        begun, claimed, now = steps
        text = "mod %s was taken over from node %s, %s %.2f s after its session had ended"
        logger.info(
            text + " (waited %.2f, claimed after %.2f, started in %.2f)", mod_id, node, state,
            now - ended, begun - ended, claimed - begun, now - claimed,
        )  # fmt: skip
