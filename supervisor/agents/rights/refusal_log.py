"""The log of refused requests, summed: one line at once, then one line a minute.

A stranger can make thousands of requests a second that are refused. A line for each would fill the
disk and hide everything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ....ipc.event import Event

logger = logging.getLogger("modvisor.refused")

# No keys of the network file: they bound the log and its memory, and refuse nobody anything.
MINUTE = 60.0
MAX_KINDS = 1000  # pairs of kind and address that are told apart within one minute; the rest are one
OTHERS = "other addresses"


@dataclass(slots=True)
class _Sum:
    first: str  # what was logged at once
    more: int = 0


class RefusalLog:
    """Logs refused requests per minute, kind and address.

    The first one of a minute is logged at once, with its reason. The others are counted, and
    logged as a number when the minute is over.

    It is used in the event loop.

    Attributes:
        minute: is told kind, address, number and first text of all that was refused within a minute.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], _Sum] = {}
        self._over: asyncio.TimerHandle | None = None
        self.minute: Callable[[Iterable[tuple[str, str, int, str]]], None] = lambda sums: None

    def note(self, kind: str, who: str, text: str, **about: str | None) -> None:
        """Log that a request was refused.

        Args:
            kind: the code of the failure.
            who: the address or the name that the request came from.
            text: what was refused, to whom and why.
            about: ids that a line of the log has besides its text.
        """
        if self.count(kind, who, text):
            logger.warning("%s", text, extra={"code": kind, "from": who, **about})

    def count(self, kind: str, who: str, text: str) -> bool:
        """Count a refused request without a line of the log. Return whether it is the first of its kind."""
        key = (kind, who) if (kind, who) in self._sums or len(self._sums) < MAX_KINDS else (kind, OTHERS)
        if (known := self._sums.get(key)) is not None:
            known.more += 1
            return False
        if self._over is None:
            self._over = asyncio.get_running_loop().call_later(MINUTE, self.tell)
        self._sums[key] = _Sum(text)
        return True

    def note_event(self, event: Event, why: str, code: str, address: str | None = None) -> None:
        """Log that an event was refused, which came from this address if it is known."""
        at = "" if address is None else f" at {address}"
        text = f"refused {event.event_name} from {event.source_id}{at}: {why}"
        who = str(event.source_id)
        self.note(str(code), address or who, text, agent=who.removeprefix("agent:"), event_id=event.event_id)

    def tell(self) -> None:
        """Log the sums of the minute that is over, or that ends now."""
        sums, self._sums = self._sums, {}
        if self._over is not None:
            self._over.cancel()
            self._over = None
        self.minute([(kind, who, each.more + 1, each.first) for (kind, who), each in sums.items()])
        for (kind, who), each in sums.items():
            if each.more:
                text = "%d more requests from %s within a minute were refused (%s); the first: %s"
                logger.warning(text, each.more, who, kind, each.first)
