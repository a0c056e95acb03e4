"""The counters of one mod, and of the network as a whole: plain numbers of fixed size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, fields

from .histogram import LatencyHistogram


@dataclass(slots=True)
class ModCounters:
    """Counts since the mod was loaded. They outlive restarts and reloads.

    Attributes:
        events_in: events that the mod was asked about.
        answered: those that it answered with a response.
        passed: those that it answered with None or a changed event.
        failed: handler errors, timeouts, crashes, refusals for overload.
        timeouts: failures of events that got no answer, or no slot, in time.
        overloaded: failures of events that found no room.
        redelivered: events that were given to the next incarnation after one died, once for each
            time.
        dead_lettered: events that were given up.
        recycled: incarnations that were replaced because they used much memory.
        rollbacks: reloads that were taken back.
        errors: events that the mod's own code failed: it raised, timed out, or gave an invalid
            answer.
        events_out: events that the mod sent into the network.
        observed: copies that observers handled.
        observe_dropped: copies that were dropped because their queue was full or their incarnation
            ended.
        restarts: incarnations that were started after a crash.
        restarts_by: the same, by the cause of the crash.
        crashes_by: ends that nobody asked for, by cause, those of trial processes included.
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
    restarts_by: Counter[str] = field(default_factory=Counter)
    crashes_by: Counter[str] = field(default_factory=Counter)
    latency: LatencyHistogram = field(default_factory=LatencyHistogram)


@dataclass(slots=True)
class NetworkCounters:
    """Counts since the network was initialized.

    Attributes:
        processed: events that the gateway took, system commands included.
        answered: events that a mod answered.
        delivered: events that reached inboxes.
        deliveries: inboxes that they reached.
        failed: events whose response was a failure.
        refused: requests that were not authenticated, not permitted or invalid.
        repeated: retries that got the remembered answer.
        inbox_dropped: deliveries that failed because an inbox was full.
    """

    processed: int = 0
    answered: int = 0
    delivered: int = 0
    deliveries: int = 0
    failed: int = 0
    refused: int = 0
    repeated: int = 0
    inbox_dropped: int = 0


def added_up(counters: Iterable[ModCounters]) -> ModCounters:
    """Return the sums of counters."""
    total = ModCounters()
    for each in counters:
        for name in (column.name for column in fields(ModCounters)):
            value = getattr(each, name)
            if isinstance(value, LatencyHistogram):
                total.latency.merge(value)
            else:
                setattr(total, name, getattr(total, name) + value)
    return total
