"""Which mods take the processor while others wait for it, found within two tenths of a second.

A mod that computes does nothing wrong. It must only not keep others waiting, so its share becomes
smaller while the machine is crowded, and usual again when it uses less. `limits.cpu`, which says how
much a mod may use at all, is another matter: `over_limit.Watch` decides that.

Reading what one mod has used takes some microseconds. It is read only while the machine is crowded,
and of mods whose share is small. Of many mods it is read only if all of them together have used
more than one may: that is one figure for the whole network.
"""

from __future__ import annotations

SHORTEST = 0.09
"""The shortest time in seconds that a figure may be of: the kernel counts in hundredths of a second."""

STALE = 1.0
"""Seconds after which the last figure says nothing about now."""

FEW = 8
"""So many mods are looked at one by one, whatever they have used together."""

MODEST = 0.5
"""The part of the limit below which a mod counts as modest."""

MODEST_FOR = 1.0
"""Seconds for which a mod must be modest until it has the usual share again."""


class Greed:
    """Decides whether one mod must yield, from what it has used.

    Args:
        limit: processor cores, `limits.cpu_yield`; None: never.

    Attributes:
        yields: whether the mod must have a smaller share.
    """

    def __init__(self, limit: float | None) -> None:
        self.limit = limit
        self.yields = False
        self._last: tuple[float, float] | None = None  # when it was read, and the seconds used
        self._modest_since: float | None = None

    def take(self, at: float, used: float) -> None:
        """Take the seconds of processor that the mod has used until now.

        While it yields, those for which it waited count too: without them a mod whose share is
        small would look modest.
        """
        last = self._last
        if last is not None and at - last[0] < SHORTEST:
            return
        self._last = (at, used)
        if self.limit is None or last is None or at - last[0] > STALE:
            return
        cores = (used - last[1]) / (at - last[0])
        if not self.yields:
            if cores > self.limit:
                self._switch()
        elif cores > MODEST * self.limit:
            self._modest_since = None
        elif self._modest_since is None:
            self._modest_since = at
        elif at - self._modest_since >= MODEST_FOR:
            self._switch()

    def _switch(self) -> None:
        self.yields, self._last, self._modest_since = not self.yields, None, None


class Together:
    """Tells from what all mods have used together whether one of them may be greedy."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def may_be_greedy(self, at: float, used: float, least: float) -> bool:
        """Take the seconds of processor that all have used until now.

        Args:
            least: processor cores, the smallest limit of them.

        Returns:
            False if no mod can have used more than its limit since the last call. True in doubt.
        """
        last, self._last = self._last, (at, used)
        if last is None or not 0 < at - last[0] <= STALE:
            return True
        return used - last[1] > least * (at - last[0])
