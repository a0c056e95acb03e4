"""Write a network's figures as text, as Prometheus reads it. Pure; takes long with many mods: call it in a thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from .families import COUNTER, FAMILIES, HISTOGRAM, INFO, OCTAVES, Family
from .figures import Figures
from .series import Series, series_of

NODE = "node"
NODE_UP = "modvisor_node_up"
_NODE_UP_DOC = "1 for a node of the cluster that answered, 0 for one that did not; only of a cluster"


def rendered(figures: Figures, accept: str) -> tuple[bytes, str]:
    """Return the text and its media type: OpenMetrics if the header ``Accept`` asks for it."""
    return _encoded(_Collected({None: series_of(figures)}), accept)


def rendered_nodes(nodes: Mapping[str, Series | None], accept: str) -> tuple[bytes, str]:
    """Return the text of the series of several nodes; each series has the label ``node``.

    Args:
        nodes: None: the node did not answer.
    """
    answered = {node: series for node, series in nodes.items() if series is not None}
    return _encoded(_Collected(answered, {node: series is not None for node, series in nodes.items()}), accept)


def _encoded(collected: _Collected, accept: str) -> tuple[bytes, str]:
    encode, media_type = choose_encoder(accept)
    return encode(collected), media_type  # type: ignore[arg-type]


class _Collected(Collector):
    """What an encoder asks for the metrics.

    Args:
        series: by node; None: the network has no nodes.
        up: which nodes answered.
    """

    def __init__(self, series: Mapping[Any, Series], up: Mapping[str, bool] | None = None) -> None:
        self._series = series
        self._up = up

    def collect(self) -> Iterator[Metric]:
        if self._up is not None:
            up = GaugeMetricFamily(NODE_UP, _NODE_UP_DOC, labels=[NODE])
            for node, answered in self._up.items():
                up.add_metric([node], float(answered))
            yield up
        for family in FAMILIES:
            metric = _made(family, is_node=self._up is not None)
            for node, series in self._series.items():
                for each in series.get(family.name, ()):
                    _add(metric, [] if node is None else [node], each)
            if metric.samples:
                yield metric


def _made(family: Family, *, is_node: bool) -> Metric:
    labels = (NODE, *family.labels) if is_node else family.labels
    if family.kind == INFO:
        return InfoMetricFamily(family.name, family.doc, labels=labels)
    if family.kind == HISTOGRAM:
        return HistogramMetricFamily(family.name, family.doc, labels=labels)
    kind = CounterMetricFamily if family.kind == COUNTER else GaugeMetricFamily
    return kind(family.name, family.doc, labels=labels)


def _add(metric: Metric, node: list[str], series: Any) -> None:
    if isinstance(metric, InfoMetricFamily):
        metric.add_metric(node, series)
    elif isinstance(metric, HistogramMetricFamily):
        labels, up_to, count, total = series
        borders = (f"{2**octave / 1e6:.6f}".rstrip("0") for octave in OCTAVES)
        metric.add_metric([*node, *labels], [*zip(borders, up_to, strict=True), ("+Inf", count)], total)
    else:
        labels, value = series
        metric.add_metric([*node, *labels], value)  # type: ignore[attr-defined]
