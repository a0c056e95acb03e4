"""What is counted about one mod, and about the network as a whole. Plain numbers of fixed size."""

from __future__ import annotations

from dataclasses import dataclass, field

from .histogram import LatencyHistogram


@dataclass(slots=True)
class ModCounters:
    """Counts since the mod was loaded; they outlive restarts and reloads.

    Attributes:
        events_in: events the mod was asked about.
        answered: of those, answered with a response; ``passed``: with None or a changed event.
        failed: handler errors, timeouts, crashes, refusals for overload.
        redelivered: times an event was given to the next incarnation after the former died; ``dead_lettered``: given up.
        recycled: incarnations replaced for using much memory; ``rollbacks``: reloads that were taken back.
        errors: events that failed by the mod's own doing: its handlers raised, took too long, answered with what cannot be.
        events_out: events the mod sent into the network.
        observed, observe_dropped: copies handed to observers; copies dropped because their queue was full.
        latency: seconds from sending an event to the worker until its answer.
    """

    events_in: int = 0
    answered: int = 0
    passed: int = 0
    failed: int = 0
    timeouts: int = 0
    overloaded: int = 0
    redelivered: int = 0
    dead_lettered: int = 0
    recycled: int = 0
    rollbacks: int = 0
    errors: int = 0
    events_out: int = 0
    observed: int = 0
    observe_dropped: int = 0
    restarts: int = 0
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


@dataclass(slots=True)
class NetworkCounters:
    """Counts since the network was initialized.

    Attributes:
        processed: events accepted by the gateway, system commands included.
        answered: by a mod; ``delivered``: events that reached inboxes; ``deliveries``: inboxes reached.
        refused: not authenticated, not permitted, invalid.
        repeated: retries answered from the window of remembered events.
    """

    processed: int = 0
    answered: int = 0
    delivered: int = 0
    deliveries: int = 0
    failed: int = 0
    refused: int = 0
    repeated: int = 0
    inbox_dropped: int = 0
