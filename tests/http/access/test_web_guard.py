"""Web pages that have no business here: names that are made to point to this machine, other sites, forms."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.config import parse_config
from modvisor.supervisor.http.access.web_guard import WebGuard
from modvisor.supervisor.http.routes.answers import Answer
from tests.http.serving import Served, shared_network

pytestmark = pytest.mark.anyio

JSON = {"Content-Type": "application/json"}
PAGE = "https://app.example.com"


@pytest.fixture(scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    keys = {"admin": {"token": "sesame-and-more"}, "http": {"hosts": ["*.agents.example"], "origins": [PAGE]}}
    async with shared_network(tmp_path_factory.mktemp("guarded"), {}, **keys) as served:
        yield served


@asynccontextmanager
async def guarding(**http: Any) -> AsyncIterator[httpx.AsyncClient]:
    config = parse_config({"network": {"name": "x", "host": "net.example.com"}, "http": http}, base_dir=".")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Answer({"seen": True})(scope, receive, send)

    transport = httpx.ASGITransport(WebGuard(app, lambda: config))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8700") as client:
        yield client


# -- Host


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8700", "[::1]:8700", "localhost", "modvisor:8700", "NET.example.com:1", "net.example.com.", "10.0.0.5",
     socket.gethostname(), "a.agents.example:8700", "b.a.agents.example"],
)  # fmt: skip
async def test_the_network_is_reached_under_its_names(host: str) -> None:
    async with guarding(hosts=["*.agents.example"]) as client:
        assert (await client.get("/api/health", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8700", "127.0.0.1.evil.example", "agents.example", "net.example.com.evil.example"],
)
async def test_a_name_that_was_made_to_point_here_is_refused(host: str, caplog: pytest.LogCaptureFixture) -> None:
    async with guarding(hosts=["*.agents.example"]) as client:
        for _ in range(3):
            answer = await client.get("/api/health", headers={"Host": host})
            assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
            assert "http.hosts" in answer.json()["message"]
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


async def test_every_name_may_be_let_in() -> None:
    async with guarding(hosts=["*"]) as client:
        assert (await client.get("/", headers={"Host": "evil.example"})).status_code == 200


# -- Origin


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "file://", "http://"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
async def test_pages_of_other_sites_are_refused(origin: str, method: str) -> None:
    async with guarding() as client:
        answer = await client.request(method, "/api/health", headers={"Origin": origin, **JSON})
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers


async def test_our_own_pages_and_those_of_the_file_may_call() -> None:
    async with guarding(origins=[PAGE]) as client:
        own = await client.post("/x", headers={"Origin": "http://127.0.0.1:8700", **JSON})
        assert own.status_code == 200
        theirs = await client.post("/x", headers={"Origin": PAGE, **JSON})
        assert theirs.status_code == 200
        assert theirs.headers["access-control-allow-origin"] == PAGE
        asking = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,authorization",
        }
        preflight = await client.options("/x", headers={"Origin": PAGE, **asking})
        assert preflight.status_code == 200
        assert "POST" in preflight.headers["access-control-allow-methods"]


# -- Content-Type


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json", None]
)
async def test_a_body_that_is_not_declared_as_json_is_refused(kind: str | None) -> None:
    async with guarding() as client:
        headers = {} if kind is None else {"Content-Type": kind}
        answer = await client.post("/api/register", content=b'{"agent_id": "alice"}', headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (415, "bad_input")


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"])
async def test_json_is_let_in(kind: str) -> None:
    async with guarding() as client:
        answer = await client.post("/api/register", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 200


async def test_a_request_without_a_body_needs_no_type() -> None:
    async with guarding() as client:
        assert (await client.post("/admin/v1/reconfigure")).status_code == 200
        form = await client.post("/admin/v1/reconfigure", headers={"Content-Type": "text/plain"})
        assert form.status_code == 415


# -- both APIs


async def test_both_apis_are_guarded(asked: Served) -> None:
    token = {"Authorization": "Bearer sesame-and-more"}
    for client, path, more in (
        (asked.agents, "/api/register", {}),
        (asked.agents, "/admin/v1/events", token),
        (asked.admin, "/admin/v1/events", {}),
    ):
        for headers, status in (
            ({"Host": "evil.example"}, 403),
            ({"Origin": "https://evil.example"}, 403),
            ({"Content-Type": "text/plain"}, 415),
            ({"Host": "one.agents.example"}, 400),  # the body says nothing
            ({"Origin": PAGE}, 400),
        ):
            answer = await client.post(path, content=b"{}", headers={**more, **headers})
            assert answer.status_code == status, (path, headers, answer.text)
    assert isinstance(asked.network, AgentNetwork)
    assert asked.network.agent_directory() == {}
