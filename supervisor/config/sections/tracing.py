"""What the network file says of traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..values.basic import flag, number, or_null, text, whole
from ..values.keys import key
from ..values.reader import Location, got, reader
from ..yaml.source import BROKEN

_PATH = "/v1/traces"


@reader("URL", "string")
def _collector(value: Any, at: Location) -> Any:
    """Read the URL of an OTLP collector; without a path, spans go to `_PATH`."""
    found = text(value, at)
    if found is BROKEN:
        return BROKEN
    try:
        parts = urlsplit(found)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number
        return at.wrong(f"expected a URL such as http://127.0.0.1:4318, got {got(found)}")
    if not is_url or parts.query or parts.fragment:
        return at.wrong(f"expected a URL such as http://127.0.0.1:4318, got {got(found)}")
    if "@" in parts.netloc:
        return at.wrong("a URL may hold no password; give it in the variable OTEL_EXPORTER_OTLP_HEADERS")
    return found if parts.path.strip("/") else found.rstrip("/") + _PATH


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """Spans for OpenTelemetry."""

    otlp: str | None = key(
        None,
        or_null(_collector),
        f"the collector that gets the spans, by OTLP over HTTP; without a path they go to `{_PATH}`. null: no traces",
    )
    sample: float = key(
        0.1,
        number(0, 1),
        "the share of the events of agents that are traced, apart from those that are part of a trace",
    )
    follow: bool = key(
        True,
        flag,
        "true: an event whose metadata has a `traceparent` goes on in that trace, and is traced if the sender traces it; "
        "false: what senders say of traces is not heeded",
    )
    per_second: int = key(
        100,
        whole(1),
        "traces that are begun or gone on with per second at most, so that no sender can slow the network",
    )
    queue: int = key(
        2048, whole(1, 1_000_000), "spans that wait for the collector; newer ones are dropped when it is full"
    )
