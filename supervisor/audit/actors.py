"""Who does what is done right now, for the audit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Actor:
    """Whoever acts.

    Attributes:
        who: such as `operator:alice`, `socket:uid 0 pid 12`, `agent:bob`, `mod:wiki`.
        address: the machine that the request came from; None: this process, or a unix socket.
    """

    who: str
    address: str | None = None


PROGRAM = Actor("program")
"""The program that runs the network, which calls it from Python."""

_ACTOR: ContextVar[Actor] = ContextVar("actor", default=PROGRAM)


def actor() -> Actor:
    return _ACTOR.get()


@contextmanager
def acting(who: str, address: str | None = None) -> Iterator[None]:
    """Name who acts inside the block, whatever was named outside of it."""
    token = _ACTOR.set(Actor(who, address))
    try:
        yield
    finally:
        _ACTOR.reset(token)
