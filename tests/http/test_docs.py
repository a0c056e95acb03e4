"""What docs/http.md says of routes, statuses, keys and figures is what the code does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route

from modvisor.ipc.errors import Code
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.calls import NetworkCounters
from modvisor.supervisor.fleet.read_models import (
    ModStats,
    NetworkStats,
    Reach,
    Resources,
    Traffic,
    WorkerStats,
)
from modvisor.supervisor.http.admin.app import admin_app
from modvisor.supervisor.http.admin.spec import LOAD
from modvisor.supervisor.http.agents.api import agents_app
from modvisor.supervisor.http.content.failures import STATUS, status_of
from modvisor.supervisor.http.websocket import closing, frames
from modvisor.supervisor.process.crashes import Cause, CrashReport

PAGE = (Path(__file__).parent.parent.parent / "docs" / "http.md").read_text()


def test_every_code_in_the_table_has_its_status() -> None:
    rows = re.findall(r"^\| ([0-9, ]+) \| (.+) \|$", PAGE, re.MULTILINE)
    listed = {
        (status, code)
        for statuses, text in rows
        for status in statuses.split(", ")
        for code in re.findall(r"`([a-z_]+)`", text)
    }
    for code, status in STATUS.items():
        assert (str(status), str(code)) in listed


def test_every_route_of_the_operator_stands_in_the_table() -> None:
    app = admin_app(AgentNetwork.from_config({"network": {"name": "n"}}))
    known = {
        f"{method} {re.sub(r'{[a-z]+(?::path)?}', 'ID', route.path.replace('{mod:path}', 'MOD'))}"
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    own = r"/admin/v1/[^`?]*|/metrics|/healthz|/readyz"
    assert set(re.findall(rf"^\| `([A-Z]+ (?:{own}))` \|", PAGE, re.MULTILINE)) == known


def test_what_a_load_takes_is_named() -> None:
    text = PAGE.partition("`POST /admin/v1/mods` takes")[2].partition("```")[0]
    assert set(re.findall(r"`([a-z_]+)`", text)) == {key.name for key in LOAD.body.keys}


def test_every_other_code_is_422() -> None:
    assert {status_of(code) for code in Code if code not in STATUS} == {422}
    assert status_of("a_mods_own_code") == 422
    assert status_of(None) == 500


# -- figures


def keys_of(model: Any) -> list[str]:
    return [each.name for each in fields(model)]


def mod_keys() -> list[str]:
    """Return the keys of `ModStats.to_dict`, which puts the figures and the reach of a mod among its own."""
    own = [key for key in keys_of(ModStats) if key not in ("figures", "reach")]
    return [*keys_of(WorkerStats), *keys_of(Reach), *own]


def table(head: str) -> list[str]:
    """Return the keys in the first column of the table with this head."""
    rows = PAGE.partition(f"\n| `{head}` | |\n|---|---|\n")[2].partition("\n\n")[0]
    return [key for row in rows.splitlines() for key in re.findall(r"`([a-z0-9_]+)`", row.split("|")[1])]


@pytest.mark.parametrize(
    ("head", "keys"),
    [
        ("stats", keys_of(NetworkStats)),
        ("events", keys_of(NetworkCounters)),
        ("mods", mod_keys()),
        ("resources", keys_of(Resources)),
        ("traffic", keys_of(Traffic)),
        ("crashes", keys_of(CrashReport)),
    ],
)
def test_every_figure_stands_in_its_table(head: str, keys: Iterable[str]) -> None:
    assert sorted(table(head)) == sorted(keys)


def test_every_cause_of_a_crash_is_named() -> None:
    [row] = re.findall(r"^\| `cause` \| (.*) \|$", PAGE, re.MULTILINE)
    assert re.findall(r"`([a-z_]+)`", row) == [str(cause) for cause in Cause]


# -- agents


def test_every_route_of_the_agents_stands_in_the_table() -> None:
    app = agents_app(AgentNetwork.from_config({"network": {"name": "n"}}))
    known = {
        f"{method} {route.path}" for route in app.routes if isinstance(route, Route) for method in route.methods or ()
    }
    assert set(re.findall(r"^\| `([A-Z]+ /(?:api/[a-z_]+|ws))` \|", PAGE, re.MULTILINE)) == known


@pytest.mark.parametrize(
    ("head", "kinds"),
    [
        ("the client says", list(frames.FROM_CLIENT)),
        ("the network says", [each["properties"]["type"]["const"] for each in frames.FROM_NETWORK.values()]),
    ],
)
def test_every_message_of_a_websocket_stands_in_the_table(head: str, kinds: list[str]) -> None:
    rows = PAGE.partition(f"\n| {head} | |\n|---|---|\n")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([a-z]+)` \|", rows, re.MULTILINE) == kinds


def test_every_close_code_stands_in_the_table() -> None:
    ours = {value for name, value in vars(closing).items() if name.isupper() and isinstance(value, int)}
    rows = PAGE.partition("#### Close codes")[2].partition("\n\n###")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", rows, re.MULTILINE)} == ours | {1002}
