"""What docs/http.md says of routes and statuses is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.routing import Route

from modvisor.ipc.errors import Code
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.http.admin.app import admin_app
from modvisor.supervisor.http.admin.mods import LOAD_KEYS
from modvisor.supervisor.http.failures import STATUS, status_of

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
        f"{method} {re.sub(r'{mod:path}', 'MOD', route.path).replace('{letter}', 'ID')}"
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert set(re.findall(r"^\| `([A-Z]+ /admin/v1/[^`?]*)` \|", PAGE, re.MULTILINE)) == known


def test_what_a_load_takes_is_named() -> None:
    text = PAGE.partition("`POST /admin/v1/mods` takes")[2].partition("```")[0]
    assert set(re.findall(r"`([a-z_]+)`", text)) == LOAD_KEYS


def test_every_other_code_is_422() -> None:
    assert {status_of(code) for code in Code if code not in STATUS} == {422}
    assert status_of("a_mods_own_code") == 422
    assert status_of(None) == 500
