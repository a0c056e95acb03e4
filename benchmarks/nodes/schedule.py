"""Decide from the seed alone what goes wrong, where and when."""

from __future__ import annotations

import random
from dataclasses import dataclass

KILL_NODE, KILL_SERVER = "kill node", "kill server"
STOP = {"stop supervisor", "stop guardian", "stop tree"}
CUT = {"cut", "cut one way", "delay", "loss"}
KINDS = (KILL_NODE, KILL_SERVER, *sorted(STOP), *sorted(CUT))

CALM = (3.0, 6.0)  # seconds without a fault after each one, in which all recovers
STOPPED = 5.0  # seconds that stopped processes stay so
LASTS = (3.0, 6.0)  # seconds that a wire is bad, or that a killed process is away


@dataclass(frozen=True, slots=True)
class Act:
    """Attributes:
    at: seconds from the start.
    lasts: seconds until it is mended.
    host: where it happens.
    """

    at: float
    lasts: float
    kind: str
    host: int


def plan(seed: int, hosts: int, seconds: float, *, have_wires: bool) -> list[Act]:
    """Return all that is to happen within `seconds`, in order. One fault at a time: more would be no quorum."""
    chance = random.Random(f"modvisor nodes {seed}")
    kinds = [kind for kind in KINDS if have_wires or kind not in CUT]
    acts: list[Act] = []
    at, pack = chance.uniform(*CALM), list[str]()
    while True:
        if not pack:
            pack = chance.sample(kinds, len(kinds))
        kind = pack.pop()
        lasts = STOPPED if kind in STOP else chance.uniform(*LASTS)
        if at + lasts > seconds - CALM[1]:
            return acts
        acts.append(Act(round(at, 3), round(lasts, 3), kind, chance.randint(1, hosts)))
        at += lasts + chance.uniform(*CALM)
