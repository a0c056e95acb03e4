"""What the network file says of the metrics."""

from __future__ import annotations

from dataclasses import dataclass

from ..values.basic import duration, flag
from ..values.keys import key


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """The figures that Prometheus reads. Times in seconds."""

    public: bool = key(
        False,
        flag,
        "true: `GET /metrics` is for everybody who can reach the port; false: for the operator, with a token of the "
        "scope `read`",
    )
    cache: float = key(
        1.0,
        duration(zero=True),
        "for how long an answer is given again, so that many scrapes cost no more than one; 0: never",
    )
