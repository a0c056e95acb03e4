"""Whether, and when, a mod that ended is started again: pure, monotonic time and history in, decision out.

The limit is Erlang/OTP's restart intensity (``supervisor.erl``, ``add_restart``): more than `max_restarts` within `window`
seconds, and the supervisor gives up. OTP restarts at once; here the delay doubles, and a delay long enough keeps failures
so far apart that the window never fills. So a run of failures without a healthy spell between them is limited as well.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

PERMANENT, TRANSIENT, TEMPORARY = "permanent", "transient", "temporary"
POLICIES = (PERMANENT, TRANSIENT, TEMPORARY)

MAX_PROBE_DELAY = 3600.0
"""The ceiling of the growing time between two probes, seconds, unless the first is longer."""

JITTER = 0.25
"""The share of a delay that chance may take off, so that mods felled by one cause do not all come back in one instant."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again, ``delay`` seconds from now."""

    delay: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Leave it down until somebody asks for it; ``reason`` is for people."""

    reason: str


class RestartPolicy:
    """The restart history of one mod.

    Args:
        policy: ``permanent`` is always started again, ``transient`` only after an unclean exit, ``temporary`` never.
        max_restarts: so many within the window, or in a row without a healthy spell; one more is too many.
        window: seconds.
        first_delay: seconds before the first restart; doubled with each one that follows without a healthy spell.
        max_delay: the delay's ceiling, seconds.
        healthy_after: an incarnation that ran so many seconds was healthy: the next delay is the first again.
        probe_after: seconds after which a mod that was given up is tried once more; None: never.
        jitter: gives a number from 0 to 1; injected by tests.
    """

    def __init__(
        self,
        *,
        policy: str = PERMANENT,
        max_restarts: int = 5,
        window: float = 60.0,
        first_delay: float = 0.1,
        max_delay: float = 30.0,
        healthy_after: float = 60.0,
        probe_after: float | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"restart policy {policy!r}: expected one of {', '.join(POLICIES)}")
        if max_restarts < 0:
            raise ValueError(f"max_restarts {max_restarts!r}: expected 0 or more")
        for name, value in (("window", window), ("first_delay", first_delay), ("max_delay", max_delay)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} {value!r}: expected 0 or more seconds")
        if not healthy_after >= 0:  # infinity is allowed: no spell is ever healthy
            raise ValueError(f"healthy_after {healthy_after!r}: expected 0 or more seconds")
        self._policy = policy
        self._max_restarts = max_restarts
        self._window = window
        self._first_delay = min(first_delay, max_delay)
        self._max_delay = max_delay
        self._healthy_after = healthy_after
        self._probe_after = probe_after
        self._jitter = jitter
        # One more than is allowed is all that a decision needs to see.
        self._exits: deque[float] = deque(maxlen=max_restarts + 1)
        self.reset()

    def exited(self, now: float, *, clean: bool, uptime: float, charged: bool = True) -> Restart | GiveUp | None:
        """An incarnation ended.

        Args:
            now: monotonic seconds.
            clean: it ended by itself and without an error.
            uptime: seconds it had been ready; 0.0 if it never was.
            charged: False: an event that was handled alone is to blame, not the mod; the end counts for nothing.

        Returns:
            None if the mod need not come back.
        """
        if self._policy == TEMPORARY or (self._policy == TRANSIENT and clean):
            return None
        if uptime >= self._healthy_after:
            self._settle()
        if not charged:
            return Restart(self._first_delay * (1 - JITTER * self._jitter()))
        self._in_a_row += 1
        self._exits.append(now)
        while now > self._exits[0] + self._window:
            self._exits.popleft()
        reason = self._reason_to_give_up()
        return Restart(self._take_delay()) if reason is None else GiveUp(reason)

    def reset(self) -> None:
        """Forget everything: somebody asked for the mod anew."""
        self._exits.clear()
        self._probes = 0
        self._settle()

    def next_probe(self) -> float | None:
        """Seconds from now until a mod that was given up is tried once more; doubled with each time. None: not by itself.

        One more end without a healthy spell before it, and it is given up again: the circuit is half open.
        """
        if self._probe_after is None:
            return None
        self._exits.clear()
        self._in_a_row = self._max_restarts
        self._probes += 1
        return min(self._probe_after * 2 ** min(self._probes - 1, 32), max(self._probe_after, MAX_PROBE_DELAY))

    def _settle(self) -> None:
        self._in_a_row = 0
        self._probes = 0
        self._next_delay = self._first_delay

    def _reason_to_give_up(self) -> str | None:
        limit = self._max_restarts
        if len(self._exits) > limit:
            return f"ended {len(self._exits)} times within {self._window:g} s; the limit is {limit} restarts"
        if self._in_a_row > limit:
            return (
                f"ended {self._in_a_row} times in a row before it had run {self._healthy_after:g} s; "
                f"the limit is {limit} restarts"
            )
        return None

    def _take_delay(self) -> float:
        delay = self._next_delay
        self._next_delay = min(2 * delay, self._max_delay)
        return delay * (1 - JITTER * self._jitter())
