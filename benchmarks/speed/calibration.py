"""Scale processor times by a fixed job: a busy or throttled machine takes longer for both.

A figure in scaled microseconds is what the work would take in a minute in which one step of the job
takes `QUIET` microseconds. Scaled figures of different minutes can be compared; wall clock cannot.
"""

from __future__ import annotations

import time

from .work import ping

QUIET = 0.92
"""Microseconds that one step of the job takes on the quiet machine that defines the scale."""

STEPS = 12_000
HELD = 64


def step_us() -> float:
    """Do the job once, about 10 ms. Return the processor time of one step, in microseconds."""
    held: dict[str, tuple[int, list[int]]] = {}
    begin = time.process_time()
    for number in range(STEPS):
        fields = ping()
        held[fields["event_id"]] = (fields["payload"]["i"], [number])
        if number > HELD:
            held.pop(next(iter(held)))
    return (time.process_time() - begin) / STEPS * 1e6


class Scale:
    """Do the job before and after a measurement; `factor` then scales what was measured between."""

    def __enter__(self) -> Scale:
        self._before = step_us()
        return self

    def __exit__(self, *error: object) -> None:
        self.step_us = (self._before + step_us()) / 2

    @property
    def factor(self) -> float:
        return QUIET / self.step_us
