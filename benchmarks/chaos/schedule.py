"""Decide from the seed alone who misbehaves, how and when."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .mischief import BELOW, TABLE

GAP = (1.5, 4.5)  # seconds between two acts of one mod
BELOW_GAP = (4.0, 12.0)


@dataclass(frozen=True, slots=True, order=True)
class Act:
    """One misbehaviour.

    Attributes:
        at: seconds from the start of the chaos.
        mod_id: "" for none.
        seed: of its randomness.
    """

    at: float
    mod_id: str
    name: str
    how: str
    seed: int


def plan(seed: int, mod_ids: list[str], seconds: float) -> list[Act]:
    """Return all that is to happen within `seconds`, in order."""
    chance = random.Random(f"modvisor chaos {seed}")
    times = sorted((at, mod_id) for mod_id in mod_ids for at in _times(chance, GAP, seconds))
    acts = [_act(at, mod_id, name, chance) for (at, mod_id), name in zip(times, _deal(chance), strict=False)]
    below = [
        Act(at, "", chance.choice(BELOW), "", chance.randrange(2**32)) for at in _times(chance, BELOW_GAP, seconds)
    ]
    return sorted(acts + below)


def _times(chance: random.Random, gap: tuple[float, float], seconds: float) -> Iterator[float]:
    at = chance.uniform(0, gap[1])
    while at < seconds:
        yield round(at, 3)
        at += chance.uniform(*gap)


def _deal(chance: random.Random) -> Iterator[str]:
    """Deal names as from a shuffled pack that holds each name as often as its weight says."""
    while True:
        cards = [name for name, mischief in TABLE.items() for _ in range(mischief.weight)]
        chance.shuffle(cards)
        yield from cards


def _act(at: float, mod_id: str, name: str, chance: random.Random) -> Act:
    hows = TABLE[name].hows
    return Act(at, mod_id, name, chance.choice(hows) if hows else "", chance.randrange(2**32))
