"""Measure processor time, scaled by a fixed job: a busy or throttled machine takes longer for both.

A figure in scaled microseconds is what the work would take in a minute in which one step of the job
takes `QUIET` microseconds. Scaled figures of different minutes can be compared; wall clock cannot.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

from .processes import cpu_seconds, queued_seconds
from .timing import Figures, latencies, now
from .work import ping

QUIET = 0.92
"""Microseconds that one step of the job takes on the quiet machine that defines the scale."""

STEPS = 12_000
HELD = 64

CPU, WORKERS, JOB, QUEUED, PER_CPU = ".cpu_us", ".workers_us", ".job_us", ".queued", ".per_cpu_s"
"""What follows the key of a figure in the keys of the figures beside it.

They are the scaled processor time of an event in the process that asks and in the processes that
answer, the step of the job in the same moments, the share of the wall clock in which the process
that asks could have run but had no core, and the events per second of all that time."""


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


class Meter:
    """Measure the work inside a `with`: its wall clock and its scaled processor time.

    Attributes:
        seconds: wall clock.
        own: scaled seconds of this process, all its threads.
        others: scaled seconds of each of the processes `pids`.
        queued: seconds in which this process could have run but had no core. They are not scaled.
    """

    def __init__(self, pids: Sequence[int] = ()) -> None:
        self._pids = pids
        self._scale = Scale()

    def __enter__(self) -> Meter:
        gc.collect()
        self._scale.__enter__()
        self.others = [cpu_seconds([pid]) for pid in self._pids]
        self.queued = queued_seconds()
        self.own, self.seconds = time.process_time(), now()
        return self

    def __exit__(self, *error: object) -> None:
        own, self.seconds = time.process_time() - self.own, now() - self.seconds
        self.queued = queued_seconds() - self.queued
        others = [cpu_seconds([pid]) - before for pid, before in zip(self._pids, self.others, strict=True)]
        self._scale.__exit__()
        self.own = own * self._scale.factor
        self.others = [used * self._scale.factor for used in others]

    def beside(self, key: str, count: int) -> Figures:
        """Return the figures that stand beside the figure `key` of so many events."""
        found = {key + CPU: self.own / count * 1e6, key + JOB: self._scale.step_us}
        found[key + QUEUED] = self.queued / self.seconds
        if self._pids:
            found[key + WORKERS] = sum(self.others) / count * 1e6
        return found

    def throughput(self, key: str, count: int) -> Figures:
        per_cpu = {key + PER_CPU: count / (self.own + sum(self.others))}
        return {key: count / self.seconds} | per_cpu | self.beside(key, count)

    def round_trips(self, name: str, times: Sequence[float]) -> Figures:
        """Return p50 and p99 of these seconds; the processor time stands beside the p50."""
        found = {f"{name}_{key}": value for key, value in latencies(times).items()}
        return found | self.beside(f"{name}_p50_us", len(times))
