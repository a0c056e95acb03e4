"""What an event's metadata says of its trace, and which events are traced. Pure.

Rules:

- An event that a mod sends while it handles a traced event is traced as part of it. What the mod's
  own metadata says counts only if it names the same trace: the mod has spans of its own.
- Another event goes on in the trace of its `traceparent`, if senders are followed and the sender traces it.
- All others are traced by chance.
- Within a second only so many events are traced, however the choice fell.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from ..config import TracingConfig

TRACEPARENT = "traceparent"
"""The key of an event's metadata, and its form, are those of W3C's Trace Context."""

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_LONGEST = 200  # characters; a later version of the form may be longer than ours


class Parent(NamedTuple):
    """A span that another one is part of."""

    trace_id: str
    span_id: str
    is_recorded: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.is_recorded else '00'}"


def parent_of(metadata: dict[str, Any]) -> Parent | None:
    """Return the span that an event's metadata names; None if there is none, or it has no valid form."""
    text = metadata.get(TRACEPARENT)
    if type(text) is not str or len(text) > _LONGEST or (found := _FORM.fullmatch(text)) is None:
        return None
    if text.startswith("00-") and len(text) != 55:
        return None
    return Parent(found[1], found[2], bool(int(found[3], 16) & 1))


class Begun(Protocol):
    """A span that has begun, and whose end is told."""

    @property
    def parent(self) -> Parent:
        """The span as another one's parent."""
        ...

    def child(self, name: str, kind: str, **attributes: str | int) -> Begun:
        """Begin a span that is part of this one."""
        ...

    def end(self, outcome: str, *, failed: bool = False) -> None:
        """End it. Only the first call counts."""
        ...


ROOT = Parent("", "", True)
"""Stands for the parent of a trace that begins here."""


class Choice:
    """Decides which events are traced.

    Args:
        chance: returns a number from 0 to 1; ``now``: seconds. Injected by tests.
    """

    def __init__(
        self,
        config: TracingConfig,
        chance: Callable[[], float] = random.random,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._chance = chance
        self._now = now
        self._second, self._left = -1, 0

    def parent(self, metadata: dict[str, Any], cause: Parent | None) -> Parent | None:
        """Return the parent of an event's span; None: the event is not traced.

        Args:
            cause: the span in which a mod handles the event that made it send this one.
        """
        said = parent_of(metadata) if metadata else None
        if cause is not None:
            parent = said if said is not None and said.trace_id == cause.trace_id else cause
        elif said is not None and self._config.follow:
            parent = said if said.is_recorded else None
        else:
            parent = ROOT if self._chance() < self._config.sample else None
        return parent if parent is not None and self._has_room() else None

    def followed(self, metadata: dict[str, Any]) -> Parent | None:
        """Return the span of another node that an event is in; None: the event is not traced."""
        parent = parent_of(metadata) if metadata and self._config.follow else None
        return parent if parent is not None and parent.is_recorded and self._has_room() else None

    def _has_room(self) -> bool:
        second = int(self._now())
        if second != self._second:
            self._second, self._left = second, self._config.per_second
        self._left -= 1
        return self._left >= 0
