"""The series of all metrics of one network as plain data, which can travel from node to node.

By the name of the metric: of a histogram ``[labels, counts up to each border, count, sum]`` for each
series, of an info its labels, of any other metric ``[labels, value]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..calls import LatencyHistogram
from .families import FAMILIES, HISTOGRAM, INFO, OCTAVES, Family, Value
from .figures import Figures

Series = dict[str, list[Any]]


def series_of(figures: Figures) -> Series:
    """Return the series of every metric that has one."""
    found = {family.name: list(_of_family(family, figures)) for family in FAMILIES}
    return {name: series for name, series in found.items() if series}


def _of_family(family: Family, figures: Figures) -> Iterator[Any]:
    if family.kind == INFO:
        yield {"version": figures.version, "network": figures.name, "network_id": figures.network_id}
    elif family.kind == HISTOGRAM:
        for worker in figures.workers:
            latency = family.read(worker)
            assert isinstance(latency, LatencyHistogram)
            up_to = [latency.up_to(octave) for octave in OCTAVES]
            yield [[worker.mod, worker.worker], up_to, latency.count, latency.total()]
    elif family.of_worker:
        for worker in figures.workers:
            yield from _values([worker.mod, worker.worker], family.read(worker))
    else:
        yield from _values([], family.read(figures))


def _values(labels: list[str], value: Value) -> Iterator[list[Any]]:
    if isinstance(value, Mapping):
        yield from ([[*labels, str(key)], float(each)] for key, each in value.items())
    elif value is not None and not isinstance(value, LatencyHistogram):
        yield [labels, float(value)]
