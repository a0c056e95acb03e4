"""The rules, the scrape and the dashboard: they can be read, and ask for metrics and labels that there are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from modvisor.supervisor.lifecycle import State
from modvisor.supervisor.metrics import FAMILIES
from modvisor.supervisor.process import Cause

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
SCRAPE = DEPLOY / "prometheus" / "scrape.yml"
DASHBOARD = json.loads((DEPLOY / "grafana" / "modvisor.json").read_text("utf-8"))

_SUFFIXES = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "info": ["_info"]}
LABELS = {
    family.name + suffix: {*family.labels, "instance", "job"} | ({"le"} if suffix == "_bucket" else set())
    | ({"version", "network", "network_id"} if suffix == "_info" else set())
    for family in FAMILIES
    for suffix in _SUFFIXES.get(family.kind, [""])
} | {"up": {"instance", "job"}}  # fmt: skip
OUTCOMES = {"answered", "passed", "failed", "timed_out", "overloaded", "dead_lettered", "observed", "dropped"}
WORDS = {"state": set(map(str, State)), "cause": set(map(str, Cause)), "outcome": OUTCOMES}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where each expression stands, and the expression."""
    yield from ((rule["alert"], rule["expr"]) for rule in alerts())
    yield from ((panel["title"], target["expr"]) for panel in panels() for target in panel["targets"])
    yield from ((v["name"], v["query"]["query"]) for v in DASHBOARD["templating"]["list"] if v["type"] == "query")


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_an_expression_asks_for_metrics_and_labels_that_there_are(where: str, expression: str) -> None:
    asked = re.findall(r"\b(modvisor_\w+|up)\b(?:\{([^}]*)\})?", expression)
    assert asked
    for name, matchers in asked:
        assert name in LABELS, f"{where}: no metric is called {name}"
        for label, value in re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', matchers):
            assert label in LABELS[name], f"{where}: {name} has no label {label}"
            if label in WORDS:
                assert set(value.split("|")) <= WORDS[label], f"{where}: {label} is never {value}"
    known = set.union(*(LABELS[name] for name, _ in asked))
    for labels in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", expression):
        assert set(re.split(r",\s*", labels)) <= known, where


def test_an_alert_says_what_is_wrong_and_what_to_do() -> None:
    names = [rule["alert"] for rule in alerts()]
    assert len(names) == len(set(names))
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}


def test_an_alert_speaks_of_labels_that_its_expression_has() -> None:
    for rule in alerts():
        said = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        grouped = re.findall(r"\bby\s*\(([^)]*)\)", rule["expr"])
        asked = [LABELS[name] for name in re.findall(r"\b(modvisor_\w+|up)\b", rule["expr"]) if name in LABELS]
        has = set(re.split(r",\s*", grouped[0])) if grouped else set.union(*asked)
        assert said <= has, rule["alert"]


def test_panels_lie_beside_one_another_and_have_ids_of_their_own() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


def test_the_dashboard_names_no_data_source_of_ours() -> None:
    uids = {panel["datasource"]["uid"] for panel in panels()}
    assert uids == {"${datasource}"}
    assert DASHBOARD["__inputs"] == []


def test_the_scrape_asks_where_figures_are_served() -> None:
    [job] = yaml.safe_load(SCRAPE.read_text())["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("modvisor", "/metrics")


@pytest.mark.slow
def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(alerts())} rules found" in done.stdout


@pytest.mark.slow
def test_promtool_reads_the_scrape(tmp_path: Path) -> None:
    config = SCRAPE.read_text().replace("/etc/prometheus/modvisor.token", str(tmp_path / "token"))
    (tmp_path / "token").write_text("mvt_x")
    (tmp_path / "prometheus.yml").write_text(config)
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
