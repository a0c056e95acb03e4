"""A reload on probation: what is kept of the former version until its successor has proven itself, and when it has failed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import anyio

from ...ipc.manifest import Manifest
from ..config import ModConfig
from .incarnation import Incarnation

INTERVAL = 0.25
"""Seconds between two looks at how often the new version fails."""

LEAST = 10
"""Events that the new version must have ended before anything is concluded from them."""

BEARABLE = 0.05
"""A share of failures that is nobody's reason to go back, whatever there was before."""

_Z = 2.33  # one-sided 99 %


@dataclass(frozen=True, slots=True)
class Tally:
    """Events of a mod that came to an end: ``total`` of them, ``failed`` by its own doing."""

    total: int = 0
    failed: int = 0

    def since(self, former: Tally) -> Tally:
        return Tally(self.total - former.total, self.failed - former.failed)


@dataclass(slots=True, eq=False)
class Probation:
    """From the switch until the new version is accepted, or the former one is back.

    Attributes:
        config, manifest: of the former version.
        resting: its last incarnation, which serves again if need be; None if none could be kept.
        state: what was handed over at the switch, and the version it is of.
        has_snapshot: whether the former version can be started anew from its kept sources.
        before: events of the former version, while it served.
        until: loop time of its end.
        sources_kept: those of the new version are, beside the former's.
    """

    config: ModConfig
    manifest: Manifest | None
    resting: Incarnation | None
    state: tuple[Any, str] | None
    has_snapshot: bool
    before: Tally
    until: float
    sources_kept: bool = False
    over: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def can_revert(self) -> bool:
        """Whether the former version can serve again."""
        return self.has_snapshot or (self.resting is not None and self.resting.pipe.closed is None)

    @property
    def version(self) -> str | None:
        """Of the former one."""
        return self.manifest.version if self.manifest is not None else None


def has_failed(before: Tally, after: Tally) -> str | None:
    """Why the new version is worse than the former one, in words; None if that cannot be said.

    It is worse when its true share of failures is, with 99 % certainty, above twice that of the former one and above
    `BEARABLE`: the lower end of the Wilson interval is compared, so that a few events prove only what is blatant.
    """
    if after.total < LEAST or not after.failed:
        return None
    share = before.failed / before.total if before.total else 0.0
    if _at_least(after) <= max(BEARABLE, 2 * share):
        return None
    return f"{after.failed} of {after.total} events failed; {before.failed} of {before.total} did before"


def _at_least(tally: Tally) -> float:
    """The lower end of the Wilson score interval of the share of failures."""
    n, p = tally.total, tally.failed / tally.total
    middle = p + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return (middle - spread) / (1 + _Z**2 / n)
