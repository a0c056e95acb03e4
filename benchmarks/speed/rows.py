"""The table: which figures there are, what measures them, and their goals."""

from __future__ import annotations

from dataclasses import dataclass

OURS, FLOOR, OPENAGENTS, PIPE, POOL, RAY = "modvisor", "floor", "openagents", "pipe", "pool", "ray"

COLUMNS = {
    OURS: "modvisor",
    FLOOR: "raw socket pair",
    OPENAGENTS: "OpenAgents, in-process",
    PIPE: "mp.Pipe",
    POOL: "ProcessPool",
    RAY: "Ray actor",
}


def short(column: str) -> str:
    """Return what a column is called near its heading."""
    return COLUMNS[column].partition(",")[0]


@dataclass(frozen=True, slots=True)
class Goal:
    """At most (or at least) `limit`: in the row's unit, or times the figure of `of` in the round."""

    limit: float
    of: str | None = None
    at_least: bool = False

    def __str__(self) -> str:
        times = f" × {short(self.of)}" if self.of is not None else ""
        return f"{'≥' if self.at_least else '≤'} {self.limit:,.10g}{times}"


@dataclass(frozen=True, slots=True)
class Row:
    """A figure.

    Attributes:
        part: what measures it, in `ours` or `growth`.
        theirs: the key of the others' figure beside it, if that key is another one.
        compared: the column that the ratio is taken of, if the goal does not say it.
    """

    key: str
    label: str
    unit: str
    part: str
    goal: Goal | None = None
    theirs: str | None = None
    compared: str | None = None

    @property
    def reference(self) -> str | None:
        return self.goal.of if self.goal is not None and self.goal.of is not None else self.compared


ROWS = (
    Row("rtt_p50_us", "round trip, one at a time, p50", "µs", "polled", Goal(1, FLOOR)),
    Row("rtt_p99_us", "… p99", "µs", "polled", compared=FLOOR),
    Row("off_p50_us", "… without polling, p50", "µs", "unpolled", Goal(3, FLOOR), theirs="rtt_p50_us"),
    Row("off_p99_us", "… without polling, p99", "µs", "unpolled", theirs="rtt_p99_us", compared=FLOOR),
    Row("rtt_one_core_p50_us", "… of the floor, both its processes on one core", "µs", "polled"),
    Row("rtt_two_cores_p50_us", "… of the floor, on a core each", "µs", "polled"),
    Row("in_flight_64", "64 in flight", "events/s", "many", Goal(2, OPENAGENTS, at_least=True)),
    Row("supervisor_us", "… processor time of an event, scaled: supervisor", "µs", "cost"),
    Row("worker_us", "… processor time of an event, scaled: worker", "µs", "cost"),
    Row("job_step_us", "… by which it is scaled: a step of a fixed job", "µs", "cost"),
    Row("in_flight_256", "256 in flight (limits: {concurrency: 256})", "events/s", "wide",
        Goal(4, OPENAGENTS, at_least=True)),
    Row("path_64", "all the way through two matching mods, 64 in flight", "events/s", "path",
        Goal(2, OPENAGENTS, at_least=True)),
    Row("fan_out", "one event to 1,000 inboxes", "deliveries/s", "fan_out", Goal(1_000_000, at_least=True),
        compared=OPENAGENTS),
    Row("http_64", "over HTTP: 64 agents, each on a connection that it keeps", "events/s", "http",
        Goal(2, OPENAGENTS, at_least=True)),
    Row("http_p50_us", "… round trip, p50", "µs", "http", compared=OPENAGENTS),
    Row("http_p99_us", "… p99", "µs", "http", compared=OPENAGENTS),
    Row("http_us", "… processor time of an event, scaled: the network's process", "µs", "http", compared=OPENAGENTS),
    Row("http_worker_us", "… processor time of an event, scaled: worker", "µs", "http"),
    Row("load_wiki_ms", "load to first answer: bundled wiki, loaded before", "ms", "life", Goal(6)),
    Row("load_echo_ms", "load to first answer: echo mod", "ms", "life", compared=FLOOR),
    Row("unload_wiki_ms", "unload, drained and reaped: bundled wiki", "ms", "life"),
    Row("unload_ms", "unload, drained and reaped: echo mod", "ms", "life", Goal(4), compared=FLOOR),
    Row("recovery_ms", "kill -9 to first answer, without the backoff", "ms", "recovery", compared=FLOOR),
    Row("save_ms", "save to first answer of the new code", "ms", "save"),
    Row("uss_idle_MB", "own memory (USS) of an idle worker", "MB", "memory", Goal(3.5)),
    Row("uss_busy_MB", "… after 2,000 events", "MB", "memory", Goal(5)),
    Row("uss_warden_MB", "… of its warden", "MB", "memory"),
    Row("blob_1_MBps", "1 MB echo", "MB/s", "blobs", Goal(1200, at_least=True), compared=FLOOR),
    Row("blob_16_MBps", "16 MB echo", "MB/s", "blobs", Goal(1200, at_least=True), compared=FLOOR),
    Row("swarm_load_s", "200 mods: all are loaded", "s", "swarm", Goal(3)),
    Row("swarm_cpu_percent", "200 mods, idle: supervisor", "% of a core", "swarm", Goal(2)),
    Row("swarm_others_cpu_percent", "200 mods, idle: all other processes", "% of a core", "swarm"),
    Row("swarm_rss_MB", "200 mods: supervisor's RSS", "MB", "swarm", Goal(120)),
    Row("growth_mods", "cost per event, 1 to 200 mods: growth", "%", "mods", Goal(15)),
    Row("growth_agents", "cost per event, 1 to 10,000 agents: growth", "%", "agents", Goal(15)),
    Row("growth_served", "cost per event, 1 to 1M events served (or as noted): growth", "%", "served", Goal(15)),
)  # fmt: skip


def matching(texts: list[str]) -> list[Row]:
    """Return the rows with one of `texts` in key, label or part. Raises ValueError if none has."""
    for text in texts:
        if not any(_has(row, text) for row in ROWS):
            raise ValueError(f"--only {text}: no row has this name; there are {', '.join(row.key for row in ROWS)}")
    return [row for row in ROWS if not texts or any(_has(row, text) for text in texts)]


def _has(row: Row, text: str) -> bool:
    return text.lower() in f"{row.key} {row.label} {row.part}".lower()
