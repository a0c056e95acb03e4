"""Whether, and when, a mod that ended is started again: a pure decision from time and history.

The limit is Erlang/OTP's restart intensity (``supervisor.erl``, ``add_restart``): after more than
`max_restarts` ends within `window` seconds the policy gives up, and the mod is quarantined. OTP
restarts at once. Here the delay doubles, and with long delays failures are too rare to fill the
window. So consecutive failures without a healthy spell between them are limited, too.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ..config import RestartConfig

TRANSIENT, TEMPORARY = "transient", "temporary"

MAX_PROBE_DELAY = 3600.0
"""Seconds between two probes at most, unless the first probe is set to wait longer."""

STARVED = 0.1
"""Seconds to wait at least for what a start takes, whatever the config says.

No limit ends such restarts. Without a pause they would take the whole processor."""

JITTER = 0.25
"""The largest share of a delay that chance takes off.

Mods that one cause brought down do not all come back in the same instant then."""


MOST_TOLD = 64
"""Ends that one node tells the next one; a policy that allows more restarts counts the others no more."""


@dataclass(frozen=True, slots=True)
class RestartHistory:
    """What counts of the ends of a mod, for the node that runs it next. It changes with each end only.

    Attributes:
        asked: the fingerprint of the config under which the mod ended; another one begins anew.
        at: when it ended last, in Unix seconds: machines have no other clock in common.
        ages: for each end that counts, oldest first, the seconds before ``at``.
        in_a_row: ends without a healthy spell between them; ``next_delay``: seconds before the next start but one.
        served_since: since when it has served after its last end, in Unix seconds; 0.0: it has not.
    """

    asked: str
    at: float
    ages: tuple[float, ...]
    in_a_row: int
    next_delay: float
    served_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Restart:
    """Start the mod again, ``delay`` seconds from now."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave the mod down until a command starts it; ``reason`` is for people."""

    reason: str


class RestartPolicy:
    """The restart history of one mod, and what follows from it.

    Args:
        config: ``permanent`` mods are always started again, ``transient`` ones only after an unclean
            exit, ``temporary`` ones never. At most ``max_restarts`` ends are allowed within
            ``window``, or in a row without a healthy spell. The delay starts with ``first_delay``
            and doubles up to ``max_delay``. An incarnation that served ``healthy_after`` seconds was
            healthy, and the next delay is the first again. ``probe_after``: seconds after which a
            mod that was given up is tried once more; None: never.
        jitter: returns a number from 0 to 1; injected by tests.
    """

    def __init__(self, config: RestartConfig, *, jitter: Callable[[], float] = random.random) -> None:
        self._config = config
        self._jitter = jitter
        self._first_delay = min(config.first_delay, config.max_delay)
        self._exits: list[float] = []
        self.reset()

    def exited(
        self, now: float, *, clean: bool, uptime: float, charged: bool = True, starved: bool = False
    ) -> Restart | GiveUp | None:
        """Decide what follows the end of an incarnation.

        Args:
            now: monotonic seconds.
            clean: the incarnation ended by itself and without an error.
            uptime: seconds for which it served; 0.0 if it never did.
            charged: False: an event that was handled alone is to blame, and the end does not count.
            starved: the supervisor lacked what a start takes. That does not count either, but the
                delay grows.

        Returns:
            None if the policy does not bring the mod back.
        """
        policy = self._config.policy
        if policy == TEMPORARY or (policy == TRANSIENT and clean):
            return None
        if uptime >= self._config.healthy_after:
            self._settle()
        if starved:
            return Restart(max(STARVED, self._take_delay()))
        if not charged:
            return Restart(self._first_delay * (1 - JITTER * self._jitter()))
        self._in_a_row += 1
        # A decision needs no more ends than one above the limit.
        newest = [*self._exits, now][-(self._config.max_restarts + 1) :]
        self._exits = [at for at in newest if now <= at + self._config.window]
        reason = self._reason_to_give_up()
        return Restart(self._take_delay()) if reason is None else GiveUp(reason)

    def reset(self) -> None:
        """Forget the history: a command started the mod anew."""
        self._exits.clear()
        self._probes = 0
        self._settle()

    def history(self, asked: str, now: float, at: float) -> RestartHistory:
        """Return what counts so far; ``now``: monotonic seconds, ``at``: Unix seconds."""
        ages = tuple(round(now - end, 3) for end in self._exits[-MOST_TOLD:])
        return RestartHistory(asked, at, ages, self._in_a_row, self._next_delay)

    def recall(self, history: RestartHistory, now: float, at: float) -> None:
        """Go on from what another node has counted; ``now``: monotonic seconds, ``at``: Unix seconds."""
        elapsed = max(0.0, at - history.at)  # a clock that is behind makes no end come
        self._exits = [now - elapsed - age for age in history.ages]
        if not history.served_since or at - history.served_since < self._config.healthy_after:
            self._in_a_row, self._next_delay = history.in_a_row, history.next_delay

    def next_probe(self) -> float | None:
        """Return the seconds until a mod that was given up is tried once more; None: never.

        They double with each probe. The mod is given up again at its next end, unless a healthy
        spell comes before it: the circuit is half open.
        """
        first = self._config.probe_after
        if first is None:
            return None
        self._exits.clear()
        self._in_a_row = self._config.max_restarts
        self._probes += 1
        return min(first * 2 ** min(self._probes - 1, 32), max(first, MAX_PROBE_DELAY))

    def _settle(self) -> None:
        self._in_a_row = 0
        self._probes = 0
        self._next_delay = self._first_delay

    def _reason_to_give_up(self) -> str | None:
        limit, config = self._config.max_restarts, self._config
        if len(self._exits) > limit:
            return f"ended {len(self._exits)} times within {config.window:g} s; the limit is {limit} restarts"
        if self._in_a_row > limit:
            return (
                f"ended {self._in_a_row} times in a row before it had run {config.healthy_after:g} s; "
                f"the limit is {limit} restarts"
            )
        return None

    def _take_delay(self) -> float:
        delay = self._next_delay
        self._next_delay = min(2 * delay, self._config.max_delay)
        return delay * (1 - JITTER * self._jitter())
