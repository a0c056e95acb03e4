"""What is under way in a network, and how far it is: reloads of many workers, backups, large changes of the file.

A request runs within `UnderWay.begun`. Whatever it calls says with `tell` how far it is, and needs to
know nothing of the request; outside a request `tell` does nothing. Other threads use what `teller` returns.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Work:
    """One request under way.

    Attributes:
        what, on: as in the audit, such as `mod.reload` and `wiki`.
        stage: what it does now; ``step``: what of that; both for people.
        done, total: of what the stage counts; ``total`` is None if it counts nothing.
    """

    number: int
    what: str
    on: str | None
    began: float = field(default_factory=time.monotonic)
    stage: str = ""
    step: str = ""
    done: int = 0
    total: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.number,
            "what": self.what,
            "on": self.on,
            "stage": ": ".join(filter(None, (self.stage, self.step))),
            "done": self.done,
            "total": self.total,
            "seconds": round(time.monotonic() - self.began, 3),
        }


_current: ContextVar[Work | None] = ContextVar("modvisor_work", default=None)


class UnderWay:
    """The requests of a network that are under way."""

    def __init__(self) -> None:
        self._works: dict[int, Work] = {}
        self._numbers = itertools.count(1)

    @contextmanager
    def begun(self, what: str, on: str | None) -> Iterator[None]:
        """Show a request as under way until the block ends."""
        work = Work(next(self._numbers), what, on)
        self._works[work.number] = work
        token = _current.set(work)
        try:
            yield
        finally:
            _current.reset(token)
            del self._works[work.number]

    def to_list(self) -> list[dict[str, Any]]:
        """Return plain data, the oldest first."""
        return [work.to_dict() for work in self._works.values()]


def tell(stage: str, done: int = 0, total: int | None = None) -> None:
    """Say what the request of this task does now.

    Args:
        done, total: how much of it is done, if that can be counted.
    """
    if (work := _current.get()) is not None:
        work.stage, work.step, work.done, work.total = stage, "", done, total


def tell_step(step: str) -> None:
    """Say which step of the stage begins."""
    if (work := _current.get()) is not None:
        work.step = step


def teller() -> Callable[[int, int], None]:
    """Return a function that any thread may call with how much is done, and of how much."""
    work = _current.get()

    def tell_from_elsewhere(done: int, total: int) -> None:
        if work is not None:
            work.done, work.total = done, total

    return tell_from_elsewhere
