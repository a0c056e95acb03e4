"""The table: which figures there are, what measures them, and their goals."""

from __future__ import annotations

from dataclasses import dataclass

from .calibration import PER_CPU

OURS, BEFORE, FLOOR = "modvisor", "before", "floor"
OPENAGENTS, PIPE, POOL, RAY = "openagents", "pipe", "pool", "ray"

COLUMNS = {
    OURS: "modvisor",
    FLOOR: "raw socket pair",
    OPENAGENTS: "OpenAgents, in-process",
    PIPE: "mp.Pipe",
    POOL: "ProcessPool",
    RAY: "Ray actor",
    BEFORE: "the other checkout",
}

SLOW, FAST = "slow", "fast"
TWO_CORES = "rtt_two_cores_p50_us"
SLOW_FROM = 30.0
"""Microseconds of the floor on a core each from which a host has slow wakeups."""


def short(column: str) -> str:
    """Return what a column is called near its heading."""
    return COLUMNS[column].partition(",")[0]


@dataclass(frozen=True, slots=True)
class Goal:
    """At most (or at least) `limit`: in the row's unit, or times the figure of `of` in the round.

    Attributes:
        of: the column that it is compared with, or None.
        wakeups: the hosts that it is set for, SLOW or FAST; None: all.
    """

    limit: float
    of: str | None = None
    at_least: bool = False
    wakeups: str | None = None

    def __str__(self) -> str:
        times = f" × {short(self.of)}" if self.of is not None else ""
        return f"{'≥' if self.at_least else '≤'} {self.limit:,.10g}{times}"


def at_least(limit: float, of: str | None = None) -> Goal:
    return Goal(limit, of, at_least=True)


@dataclass(frozen=True, slots=True)
class Row:
    """A figure.

    Attributes:
        part: what measures it, in `ours` or `growth`.
        goals: those of all hosts.
        theirs: the key of the others' figure beside it, if that key is another one.
        compared: the column that a ratio is taken of, without a goal.
    """

    key: str
    label: str
    unit: str
    part: str
    goals: tuple[Goal, ...] = ()
    theirs: str | None = None
    compared: str | None = None

    @property
    def more_is_better(self) -> bool:
        return any(goal.at_least for goal in self.goals)


def _goals(slow: float, fast: float, *more: Goal) -> tuple[Goal, ...]:
    """Return the goals beside the floor: where wakeups are slow, the network can hide them by polling."""
    return Goal(slow, FLOOR, wakeups=SLOW), Goal(fast, FLOOR, wakeups=FAST), *more


ROWS = (
    Row("rtt_p50_us", "round trip, one at a time, p50", "µs", "polled",
        _goals(0.9, 2.5, Goal(1.5, OPENAGENTS, wakeups=FAST)), compared=OPENAGENTS),
    Row("rtt_p99_us", "… p99", "µs", "polled", compared=FLOOR),
    Row("off_p50_us", "… without polling, p50", "µs", "unpolled", _goals(2, 3.5), theirs="rtt_p50_us"),
    Row("off_p99_us", "… without polling, p99", "µs", "unpolled", theirs="rtt_p99_us", compared=FLOOR),
    Row("rtt_one_core_p50_us", "… of the floor, both its processes on one core", "µs", "polled"),
    Row(TWO_CORES, "… of the floor, on a core each", "µs", "polled"),
    Row("in_flight_64", "64 in flight", "events/s", "many", (at_least(2.5, OPENAGENTS), at_least(0.8, PIPE))),
    Row("in_flight_64" + PER_CPU, "… per second of processor time, all processes", "events", "many",
        (at_least(1.5, OPENAGENTS),)),
    Row("in_flight_256", "256 in flight (limits: {concurrency: 256})", "events/s", "wide",
        (at_least(2.7, OPENAGENTS),)),
    Row("path_64", "all the way through two matching mods, 64 in flight", "events/s", "path",
        (at_least(2, OPENAGENTS),)),
    Row("http_64", "over HTTP, 64 agents with kept connections", "events/s", "http", (at_least(2, OPENAGENTS),)),
    Row("http_p50_us", "… round trip, p50", "µs", "http", compared=OPENAGENTS),
    Row("http_p99_us", "… p99", "µs", "http", compared=OPENAGENTS),
    Row("http_client_us", "… processor time of the client, not scaled", "µs", "http"),
    Row("durable_64", "durable, 64 in flight", "events/s", "durable", (at_least(0.9, BEFORE),)),
    Row("durable_64_p99_us", "… p99", "µs", "durable", (Goal(1.1, BEFORE),)),
    Row("fan_out", "one event to 1,000 inboxes", "deliveries/s", "fan_out", (at_least(1_000_000),),
        compared=OPENAGENTS),
    Row("load_wiki_spare_ms", "load to first answer: bundled wiki, with a spare worker", "ms", "spare", (Goal(6),)),
    Row("load_echo_spare_ms", "load to first answer: echo mod, with a spare worker", "ms", "spare"),
    Row("load_wiki_ms", "load to first answer: bundled wiki, loaded before", "ms", "life", (Goal(10),)),
    Row("load_echo_ms", "load to first answer: echo mod", "ms", "life", compared=FLOOR),
    Row("unload_wiki_spare_ms", "unload, drained and reaped: bundled wiki, with a spare worker", "ms", "spare",
        (Goal(4),)),
    Row("unload_echo_spare_ms", "unload, drained and reaped: echo mod, with a spare worker", "ms", "spare"),
    Row("unload_wiki_ms", "unload, drained and reaped: bundled wiki", "ms", "life"),
    Row("unload_echo_ms", "unload, drained and reaped: echo mod", "ms", "life", (Goal(4),), compared=FLOOR),
    Row("recovery_ms", "kill -9 to first answer, without the backoff", "ms", "recovery", compared=FLOOR),
    Row("save_ms", "save to first answer of the new code", "ms", "save"),
    Row("uss_idle_MB", "own memory (USS) of an idle worker", "MB", "memory", (Goal(3.5),)),
    Row("uss_busy_MB", "… after 2,000 events", "MB", "memory", (Goal(5),)),
    Row("uss_warden_MB", "… of its warden", "MB", "memory"),
    Row("blob_1_MBps", "1 MB echo", "MB/s", "blobs", (at_least(0.8, FLOOR),)),
    Row("blob_16_MBps", "16 MB echo", "MB/s", "blobs", (at_least(0.8, FLOOR),)),
    Row("swarm_load_s", "200 mods: all are loaded", "s", "swarm", (Goal(1.5),)),
    Row("swarm_cpu_percent", "200 mods, idle: supervisor", "% of a core", "swarm", (Goal(1),)),
    Row("swarm_others_cpu_percent", "200 mods, idle: all other processes", "% of a core", "swarm"),
    Row("swarm_rss_MB", "200 mods: supervisor's RSS", "MB", "swarm", (Goal(60),)),
    Row("growth_mods", "processor time of an event, 1 to 200 mods: growth", "%", "growth_mods", (Goal(10),)),
    Row("growth_agents", "processor time of an event, 1 to 10,000 agents: growth", "%", "growth_agents", (Goal(10),)),
    Row("growth_served", "processor time of an event, 1 to 1M events served (or as noted): growth", "%", "growth_served",
        (Goal(10),)),
)  # fmt: skip


def matching(texts: list[str]) -> list[Row]:
    """Return the rows with one of `texts` in key, label or part. Raises ValueError if none has."""
    for text in texts:
        if not any(_has(row, text) for row in ROWS):
            raise ValueError(f"--only {text}: no row has this name; there are {', '.join(row.key for row in ROWS)}")
    return [row for row in ROWS if not texts or any(_has(row, text) for text in texts)]


def _has(row: Row, text: str) -> bool:
    return text.lower() in f"{row.key} {row.label} {row.part}".lower()
