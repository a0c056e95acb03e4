"""The text of the metrics: both forms can be read, each figure is where it belongs, and no sender adds a series."""

from __future__ import annotations

import importlib.util
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from modvisor.ipc.messages import pack, unpack
from modvisor.supervisor.calls import LatencyHistogram, ModCounters, NetworkCounters
from modvisor.supervisor.config import LimitsConfig
from modvisor.supervisor.lifecycle import State
from modvisor.supervisor.limits import ProcessSample
from modvisor.supervisor.metrics import FAMILIES, Figures, rendered, rendered_nodes, series_of
from modvisor.supervisor.metrics.families import COUNTER
from modvisor.supervisor.metrics.figures import WorkerFigures
from modvisor.supervisor.process import Cause

ROOT = Path(__file__).parent.parent.parent
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
JOURNAL = dict.fromkeys(
    (
        "dead_letters",
        "dead_letter_bytes",
        "durable_events",
        "durable_bytes",
        "file_bytes",
        "write_errors",
        "damaged_rows",
    ),
    5,
)
SAMPLE = ProcessSample(7, 12.5, 1000, 900, 3, 11, 5, 6, 2, 0.0)


def worker(mod: str, index: int = 0, **more: Any) -> WorkerFigures:
    given: dict[str, Any] = {
        "state": State.READY, "required": True, "pid": 7, "uptime": 1.0, "sample": SAMPLE, "limits": LimitsConfig(memory=4000),
        "counters": ModCounters(), "in_flight": 1, "queue": 2, "durable": 3, "observe_queue": 4, "log_write_errors": 0,
    }  # fmt: skip
    return WorkerFigures(mod, str(index), **{**given, **more})


def network(*workers: WorkerFigures, **more: Any) -> Figures:
    given: dict[str, Any] = {
        "name": "n", "network_id": "n", "version": "1", "is_running": True, "started_at": 1.0, "uptime": 2.0,
        "counters": NetworkCounters(processed=9), "pid": 1, "sample": SAMPLE, "journal": JOURNAL,
        "connections": {"agent": 3}, "dismissed": {"was too slow": 1}, "traces": {"exported": 1},
    }  # fmt: skip
    return Figures(**{**given, "workers": workers, **more})


def series(figures: Figures) -> dict[tuple[str, ...], float]:
    """Return the value of each series, by its name and the values of its labels."""
    text, _ = rendered(figures, "")
    found: dict[tuple[str, ...], float] = {}
    for metric in text_string_to_metric_families(text.decode()):
        for sample in metric.samples:
            found[(sample.name, *(sample.labels[name] for name in sorted(sample.labels)))] = sample.value
    return found


def test_a_strict_reader_of_openmetrics_reads_all_of_it() -> None:
    latency = LatencyHistogram()
    for duration in (0.0, 1e-6, 0.003, 5.0, 2000.0):
        latency.add(duration)
    figures = network(worker("wiki", counters=ModCounters(latency=latency)), worker("wiki", 1), worker("chat"))
    text, media_type = rendered(figures, OPENMETRICS)
    assert media_type.startswith("application/openmetrics-text")
    read = list(openmetrics.text_string_to_metric_families(text.decode()))
    unset = {f"modvisor_mod_{limit}" for limit in ("cpu_limit_percent", "memory_soft_limit_bytes", "disk_limit_bytes")}
    assert {metric.name for metric in read} == {family.name for family in FAMILIES} - unset


def test_every_metric_has_a_name_of_its_own_and_a_counter_no_suffix() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    assert not [family.name for family in FAMILIES if family.name.endswith("_total")]
    assert all(name.startswith("modvisor_") for name in names)


def test_figures_of_a_process_have_the_names_of_psutil() -> None:
    found = series(network(worker("wiki")))
    units = {
        "rss": "rss_bytes",
        "uss": "uss_bytes",
        "read_bytes": "read_bytes_total",
        "write_bytes": "write_bytes_total",
    }
    for name in ("cpu_percent", "rss", "uss", "threads", "open_files", "children", "read_bytes", "write_bytes"):
        shown = units.get(name, name)
        assert found[f"modvisor_mod_{shown}", "wiki", "0"] == getattr(SAMPLE, name)
        assert found[(f"modvisor_supervisor_{shown}",)] == getattr(SAMPLE, name)
    assert found["modvisor_mod_memory_limit_bytes", "wiki", "0"] == 4000


def test_outcomes_of_events_add_up_to_those_that_have_ended() -> None:
    counters = ModCounters(
        events_in=20, answered=5, passed=4, failed=10, timeouts=3, overloaded=2, dead_lettered=1
    )  # one is in flight
    found = series(network(worker("wiki", counters=counters)))
    outcomes = {key[2]: value for key, value in found.items() if key[0] == "modvisor_mod_events_total"}
    assert outcomes == {
        "answered": 5, "passed": 4, "failed": 4, "timed_out": 3, "overloaded": 2, "dead_lettered": 1,
    }  # fmt: skip
    assert sum(outcomes.values()) == 19


def test_restarts_are_told_by_cause_and_every_cause_is_there_from_the_start() -> None:
    counters = ModCounters(restarts_by=Counter({"hang": 2}), crashes_by=Counter({"hang": 2, "exited": 1}))
    found = series(network(worker("wiki", counters=counters)))
    restarts = {key[1]: value for key, value in found.items() if key[0] == "modvisor_mod_restarts_total"}
    assert restarts == {**dict.fromkeys(map(str, Cause), 0), "hang": 2}
    assert found["modvisor_mod_crashes_total", "exited", "wiki", "0"] == 1


def test_a_worker_without_a_process_has_no_series_of_one() -> None:
    down = worker("wiki", state=State.QUARANTINED, pid=None, uptime=None, sample=None)
    found = series(network(down))
    assert found["modvisor_mod_up", "wiki", "0"] == 0
    assert found["modvisor_mod_state", "wiki", "quarantined", "0"] == 1
    assert not [
        key for key in found if key[0] in ("modvisor_mod_rss_bytes", "modvisor_mod_pid", "modvisor_mod_uptime_seconds")
    ]


def test_a_mod_counts_under_its_first_worker_that_is_not_ready() -> None:
    found = series(network(worker("wiki"), worker("wiki", 1, state=State.BACKOFF), worker("chat")))
    assert (found["modvisor_mods", "ready"], found["modvisor_mods", "backoff"]) == (1, 1)


def test_ten_million_events_and_every_count_add_no_series() -> None:
    """The counters are fed directly: a series comes from a loaded mod and from nothing else."""
    before = series(network(worker("wiki")))
    latency, many = LatencyHistogram(), 10_000_000
    for octave in range(-4, 34):
        latency.add(2.0**octave * 1e-6)
    counts = {
        name: many for name in ModCounters.__dataclass_fields__ if name not in ("latency", "restarts_by", "crashes_by")
    }
    by = Counter({str(cause): many for cause in Cause})
    busy = worker("wiki", counters=ModCounters(**counts, latency=latency, restarts_by=by, crashes_by=by))
    all_counted = NetworkCounters(**dict.fromkeys(NetworkCounters.__dataclass_fields__, many))
    after = series(network(busy, counters=all_counted))
    assert after.keys() == before.keys()
    assert after[("modvisor_events_processed_total",)] == many


def test_labels_are_mods_workers_and_words_of_fixed_lists() -> None:
    assert {label for family in FAMILIES for label in family.labels} == {
        "mod", "worker", "state", "rank", "reason", "outcome", "cause",
    }  # fmt: skip


@pytest.mark.parametrize("name", ['we"ird', "back\\slash", "two\nlines", "größe"])
def test_a_name_of_a_network_is_written_so_that_it_is_read_back(name: str) -> None:
    text, _ = rendered(network(name=name), OPENMETRICS)
    [build] = [m for m in openmetrics.text_string_to_metric_families(text.decode()) if m.name == "modvisor_build"]
    assert build.samples[0].labels["network"] == name


def test_counters_of_both_forms_are_the_same() -> None:
    plain = series(network(worker("wiki", counters=ModCounters(answered=3))))
    text, _ = rendered(network(worker("wiki", counters=ModCounters(answered=3))), OPENMETRICS)
    named = {s.name for m in openmetrics.text_string_to_metric_families(text.decode()) for s in m.samples}
    assert {key[0] for key in plain} == named
    assert {f"{family.name}_total" for family in FAMILIES if family.kind == COUNTER} <= named


def test_copied_counters_do_not_change_with_the_mod() -> None:
    latency = LatencyHistogram()
    copied = replace(ModCounters(latency=latency), latency=latency.copy())
    latency.add(1.0)
    assert (copied.latency.count, latency.count) == (0, 1)


def test_the_table_of_the_manual_is_printed_from_the_families() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    spec = importlib.util.spec_from_file_location("print_metrics", ROOT / "docs" / "print_metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.printed(page) == page, "docs/metrics.md is stale: run 'make docs'"


def test_the_series_of_several_nodes_are_told_apart_and_a_silent_node_is_named() -> None:
    figures = network(worker("wiki"), worker("chat"))
    told = unpack(pack(series_of(figures)))
    text = rendered_nodes({"a": told, "b": told, "c": None}, "text/plain")[0].decode()
    found = {
        (sample.name, sample.labels.get("node")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert {node: found["modvisor_node_up", node] for node in "abc"} == {"a": 1.0, "b": 1.0, "c": 0.0}
    one = {name for name, node in found if node == "a"}
    assert one == {name for name, node in found if node == "b"}
    assert {name for name, node in found if node == "c"} == {"modvisor_node_up"}
    alone = text_string_to_metric_families(rendered(figures, "text/plain")[0].decode())
    assert one - {"modvisor_node_up"} == {sample.name for family in alone for sample in family.samples}
