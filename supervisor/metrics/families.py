"""The table of all metrics: name, kind, meaning, and where the figure comes from.

Rules:

- A label's values are the ids of loaded mods, the numbers of their workers, or words of a fixed
  list. Never the name of an event, the id of an agent, or anything else that a sender chooses: a
  network that runs for years has as many series as on its first day.
- What belongs to a process has psutil's names, as in stats: ``cpu_percent``, ``rss``, ``uss``,
  ``threads``, ``open_files``, ``children``, ``read_bytes``, ``write_bytes``.
- A figure that is not known has no series.

``docs/metrics.md`` is printed from the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..calls import LatencyHistogram, ModCounters
from ..lifecycle import State
from ..process import Cause
from .figures import Figures, WorkerFigures

GAUGE, COUNTER, HISTOGRAM, INFO = "gauge", "counter", "histogram", "info"

OCTAVES = tuple(range(6, 27))
"""The borders of the histogram's buckets are ``2 ** octave`` µs: from 64 µs to 67 s. `LatencyHistogram`
has buckets that end there, so the counts are exact."""

MOD_LABELS = ("mod", "worker")

Value = float | Mapping[str, float] | LatencyHistogram | None


@dataclass(frozen=True, slots=True)
class Family:
    """One metric.

    Attributes:
        name: as Prometheus shows it.
        read: returns the value of a `Figures` or a `WorkerFigures`; with ``by``, values by that label.
        by: a further label.
        of_worker: whether each worker of each mod has one.
    """

    name: str
    kind: str
    doc: str
    read: Callable[[Any], Value]
    by: str = ""
    of_worker: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of each series."""
        own = (self.by,) if self.by else ()
        return (*MOD_LABELS, *own) if self.of_worker else own


def _network(name: str, kind: str, doc: str, read: Callable[[Figures], Value], by: str = "") -> Family:
    return Family(f"modvisor_{name}", kind, doc, read, by)


def _mod(name: str, kind: str, doc: str, read: Callable[[WorkerFigures], Value], by: str = "") -> Family:
    return Family(f"modvisor_mod_{name}", kind, doc, read, by, of_worker=True)


def _event_outcomes(counters: ModCounters) -> dict[str, float]:
    """Return how many events came to which end, each counted once."""
    apart = {
        "timed_out": counters.timeouts,
        "overloaded": counters.overloaded,
        "dead_lettered": counters.dead_lettered,
    }
    failed = counters.failed - sum(apart.values())
    return {"answered": counters.answered, "passed": counters.passed, "failed": failed, **apart}


def _by_cause(counted: Mapping[str, int]) -> dict[str, float]:
    """Return the count of every cause, 0 too: a rate over a series that has just begun would miss the first one."""
    return {str(cause): counted.get(cause, 0) for cause in Cause}


def _used(name: str) -> Callable[[Any], Value]:
    return lambda figures: None if figures.sample is None else getattr(figures.sample, name)


def _limit(name: str, scale: float = 1) -> Callable[[WorkerFigures], Value]:
    def read(worker: WorkerFigures) -> Value:
        limit = getattr(worker.limits, name)
        return None if limit is None else limit * scale

    return read


def _journal(name: str) -> Callable[[Figures], Value]:
    return lambda figures: figures.journal.get(name)


def _shared(value: Callable[[Figures], Value]) -> Callable[[Figures], Value]:
    """Return what all nodes of a cluster know, at one of them: the sum over the nodes is right then."""
    return lambda figures: value(figures) if figures.tells_shared else None


_USED = (
    ("cpu_percent", GAUGE, "Use of one core since the sample before, in percent", "cpu_percent"),
    ("rss_bytes", GAUGE, "Resident memory of all its processes", "rss"),
    ("uss_bytes", GAUGE, "Memory that would be free if its first process alone ended", "uss"),
    ("threads", GAUGE, "Threads of all its processes", "threads"),
    ("open_files", GAUGE, "Descriptors of its first process", "open_files"),
    ("children", GAUGE, "Its processes besides the first", "children"),
    ("read_bytes", COUNTER, "Bytes that its first process has read from disk", "read_bytes"),
    ("write_bytes", COUNTER, "Bytes that its first process has written to disk", "write_bytes"),
)

_AT_ONE = "; in a cluster, one node tells it for all"

_OF_NETWORK = (
    _network("build", INFO, "Version and name of the network", lambda f: None),
    _network("up", GAUGE, "1 while the network takes events", lambda f: f.is_running),
    _network("start_time_seconds", GAUGE, "When the network started, in Unix seconds", lambda f: f.started_at),
    _network("uptime_seconds", GAUGE, "How long the network has run", lambda f: f.uptime),
    _network("mods", GAUGE, "Loaded mods by their state", lambda f: _mods_by_state(f), "state"),
    _network("agents", GAUGE, f"Registered agents{_AT_ONE}", _shared(lambda f: f.inboxes.agents)),
    _network("agents_connected", GAUGE, "Agents that wait for events right now", lambda f: f.inboxes.connected),
    _network("channels", GAUGE, f"Channels{_AT_ONE}", _shared(lambda f: f.channels)),
    _network("inbox_events", GAUGE, "Events in all inboxes together", lambda f: f.inboxes.events),
    _network("inbox_bytes", GAUGE, "Approximate size of these events together", lambda f: f.inboxes.size),
    _network("inbox_events_max", GAUGE, "Events in the fullest inbox", lambda f: f.inboxes.most),
    _network("inbox_dropped", COUNTER, "Deliveries that failed because an inbox was full",
             lambda f: f.counters.inbox_dropped),
    _network("events_processed", COUNTER, "Events that were taken, commands included", lambda f: f.counters.processed),
    _network("events_answered", COUNTER, "Events that a mod answered", lambda f: f.counters.answered),
    _network("events_delivered", COUNTER, "Events that reached inboxes", lambda f: f.counters.delivered),
    _network("events_failed", COUNTER, "Events whose sender was told of a failure", lambda f: f.counters.failed),
    _network("events_repeated", COUNTER, "Retries that got the first answer", lambda f: f.counters.repeated),
    _network("deliveries", COUNTER, "Inboxes that events reached", lambda f: f.counters.deliveries),
    _network("requests_refused", COUNTER, "Requests that were not authenticated, not permitted or invalid",
             lambda f: f.counters.refused),
    _network("http_connections", GAUGE, "Connections of the TCP port, by who holds them", lambda f: f.connections, "rank"),
    _network("http_connections_limit", GAUGE, "The limit http.connections", lambda f: f.most_connections),
    _network("http_dismissed", COUNTER, "Connections that were closed because of their client, or to make room",
             lambda f: f.dismissed, "reason"),
    _network("dead_letters", GAUGE, f"Dead letters that are kept{_AT_ONE}", _shared(_journal("dead_letters"))),
    _network("dead_letter_bytes", GAUGE, f"How large the dead letters are together{_AT_ONE}",
             _shared(_journal("dead_letter_bytes"))),
    _network("journal_durable_events", GAUGE, "Accepted events without an answer", _journal("durable_events")),
    _network("journal_durable_bytes", GAUGE, "How large these events are together", _journal("durable_bytes")),
    _network("journal_file_bytes", GAUGE, "Size of the journal's file and its log", _journal("file_bytes")),
    _network("journal_waiting", GAUGE, "Changes that wait for the disk", lambda f: f.journal_waiting),
    _network("journal_write_errors", COUNTER, "Changes that could not be kept", _journal("write_errors")),
    _network("journal_damaged_rows", GAUGE, "Rows of the journal that cannot be read", _journal("damaged_rows")),
    _network("output_lost", COUNTER, "Messages that could not be written to stdout or stderr", lambda f: f.output_lost),
    _network("spans", COUNTER, "Spans that were recorded, by what became of them", lambda f: f.traces, "outcome"),
    _network("supervisor_pid", GAUGE, "Process id of the network", lambda f: f.pid),
    *(_network(f"supervisor_{name}", kind, f"{doc}; of the network's own process", _used(field))
      for name, kind, doc, field in _USED),
)  # fmt: skip

_OF_MODS = (
    _mod("state", GAUGE, "1 for the state that the worker is in, 0 for the others",
         lambda w: {str(state): state is w.state for state in State}, "state"),
    _mod("up", GAUGE, "1 while the worker serves events", lambda w: w.state is State.READY),
    _mod("required", GAUGE, "1 if the network is not ready without the mod", lambda w: w.required),
    _mod("pid", GAUGE, "Process id of the worker", lambda w: w.pid),
    _mod("uptime_seconds", GAUGE, "How long its process has run", lambda w: w.uptime),
    *(_mod(name, kind, doc, _used(field)) for name, kind, doc, field in _USED),
    _mod("cpu_limit_percent", GAUGE, "The limit cpu, of one core in percent", _limit("cpu", 100)),
    _mod("memory_limit_bytes", GAUGE, "The limit memory", _limit("memory")),
    _mod("memory_soft_limit_bytes", GAUGE, "The limit memory_soft", _limit("memory_soft")),
    _mod("disk_limit_bytes", GAUGE, "The limit disk", _limit("disk")),
    _mod("threads_limit", GAUGE, "The limit threads", _limit("threads")),
    _mod("processes_limit", GAUGE, "The limit processes", _limit("processes")),
    _mod("open_files_limit", GAUGE, "The limit open_files", _limit("open_files")),
    _mod("restarts", COUNTER, "Restarts, by the cause of the end before", lambda w: _by_cause(w.counters.restarts_by), "cause"),
    _mod("crashes", COUNTER, "Ends that nobody asked for, by cause", lambda w: _by_cause(w.counters.crashes_by), "cause"),
    _mod("recycled", COUNTER, "Processes that were replaced because of their memory", lambda w: w.counters.recycled),
    _mod("rollbacks", COUNTER, "Reloads that were taken back", lambda w: w.counters.rollbacks),
    _mod("events", COUNTER, "Events that the mod was asked about, by how that ended",
         lambda w: _event_outcomes(w.counters), "outcome"),
    _mod("events_asked", COUNTER, "Events that the mod was asked about", lambda w: w.counters.events_in),
    _mod("errors", COUNTER, "Events that the mod's own code failed", lambda w: w.counters.errors),
    _mod("events_sent", COUNTER, "Events that the mod sent", lambda w: w.counters.events_out),
    _mod("redelivered", COUNTER, "Events that were given to the next process after one died",
         lambda w: w.counters.redelivered),
    _mod("copies", COUNTER, "Copies of events for its observers, by what became of them",
         lambda w: {"observed": w.counters.observed, "dropped": w.counters.observe_dropped}, "outcome"),
    _mod("latency_seconds", HISTOGRAM, "From sending an event to the worker until its answer; the sum is right to 6 %",
         lambda w: w.counters.latency),
    _mod("in_flight", GAUGE, "Events that the worker handles", lambda w: w.in_flight),
    _mod("in_flight_limit", GAUGE, "The limit concurrency", _limit("concurrency")),
    _mod("queue", GAUGE, "Events that wait for a free slot", lambda w: w.queue),
    _mod("queue_limit", GAUGE, "The limit queue", _limit("queue")),
    _mod("durable_events", GAUGE, "Accepted events that are under way", lambda w: w.durable),
    _mod("observe_queue", GAUGE, "Copies that wait for its observers", lambda w: w.observe_queue),
    _mod("log_write_errors", COUNTER, "Lines of its log that could not be written", lambda w: w.log_write_errors),
)  # fmt: skip

FAMILIES = (*_OF_NETWORK, *_OF_MODS)
"""All metrics, in the order in which they are written."""


def _mods_by_state(figures: Figures) -> dict[str, float]:
    """Count mods by the state of their first worker that is not ready."""
    shown: dict[str, State] = {}
    for worker in figures.workers:
        if shown.setdefault(worker.mod, worker.state) is State.READY:
            shown[worker.mod] = worker.state
    states = list(shown.values())
    return {str(state): states.count(state) for state in State}
