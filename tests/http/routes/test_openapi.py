"""The OpenAPI documents are those of the routes, real answers are as they say, and no request breaks anything."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator

from modvisor.supervisor.http.documents import documents
from tests.http.fuzzing import Asked, Checker, requests
from tests.http.serving import TALKER, Served, shared_network

pytestmark = pytest.mark.anyio

FOLDER = Path(__file__).parents[3] / "docs" / "openapi"
DOCUMENTS = documents()
MINUTES = float(os.environ.get("FUZZ_MINUTES", "0.05"))
"""How long the long form fuzzes each API."""

# Those that end the network, write files, or have no end.
LEFT_OUT = frozenset(
    {
        "POST /admin/v1/shutdown",
        "POST /admin/v1/backup",
        "GET /admin/v1/events",
        "GET /admin/v1/live",
        "GET /api/events",
    }
)


@pytest.fixture(scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    keys: dict[str, Any] = {"allowed_mods": ["./talker"], "agents": {"max_agents": 50}}
    async with shared_network(tmp_path_factory.mktemp("described"), {"talker": TALKER}, **keys) as served:
        await served.register("alice")
        yield served


def client_of(served: Served, api: str) -> httpx.AsyncClient:
    return served.agents if api == "agents" else served.admin


@pytest.mark.parametrize("api", DOCUMENTS)
def test_the_printed_documents_are_those_of_the_routes(api: str) -> None:
    printed = json.loads((FOLDER / f"{api}.json").read_text("utf-8"))
    assert printed == json.loads(json.dumps(DOCUMENTS[api])), "docs/openapi is stale: run 'make docs'"


@pytest.mark.parametrize("api", DOCUMENTS)
def test_every_schema_is_one(api: str) -> None:
    def check(node: Any) -> None:
        if isinstance(node, dict):
            if "schema" in node:
                Draft202012Validator.check_schema(node["schema"])
            for each in node.values():
                check(each)

    assert DOCUMENTS[api]["openapi"] == "3.1.0"
    check(DOCUMENTS[api])
    operations = [each for path in DOCUMENTS[api]["paths"].values() for each in path.values()]
    assert all(operation["summary"] for operation in operations)


# -- real answers


@pytest.mark.parametrize(
    ("api", "method", "path", "body"),
    [
        ("agents", "get", "/api/health", None),
        ("agents", "post", "/api/register", {"agent_id": "bob"}),
        ("agents", "post", "/api/send_event", {"event_name": "test.ping", "source_id": "alice", "secret": "?"}),
        ("agents", "get", "/api/poll?agent_id=alice", None),
        ("operator", "get", "/admin/v1/status", None),
        ("operator", "get", "/admin/v1/stats", None),
        ("operator", "get", "/admin/v1/mods", None),
        ("operator", "get", "/admin/v1/mods/available", None),
        ("operator", "get", "/admin/v1/crashes", None),
        ("operator", "get", "/admin/v1/dead-letters", None),
        ("operator", "delete", "/admin/v1/dead-letters?all=1", None),
        ("operator", "get", "/admin/v1/mods/talker/log?lines=5", None),
        ("operator", "get", "/admin/v1/mods/talker/audience", None),
        ("operator", "post", "/admin/v1/mods/talker/reload", {}),
        ("operator", "post", "/admin/v1/events", {"event_name": "test.ping", "payload": {"i": 1}}),
        ("operator", "post", "/admin/v1/events/batch", {"events": [{"event_name": "test.ping"}, 5]}),
        ("operator", "get", "/admin/v1/events?limit=1", None),
        ("operator", "get", "/healthz", None),
        ("operator", "get", "/readyz", None),
        ("operator", "get", "/metrics", None),
    ],
)
async def test_a_real_answer_is_as_the_document_says(
    asked: Served, api: str, method: str, path: str, body: Any
) -> None:
    """Everything that the document promises of a successful answer is there, and nothing has another kind."""
    template = path.partition("?")[0].replace("/talker/", "/{mod}/")
    operation = DOCUMENTS[api]["paths"][template][method]
    client = client_of(asked, api)
    if template == "/admin/v1/events" and method == "get":
        async with client.stream("GET", path) as stream:
            lines = stream.aiter_lines()
            first = await anext(lines)
            await asked.admin.post("/admin/v1/events", json={"event_name": "test.ping"})
            text = "\n".join([first, *[line async for line in lines]])
            answer = httpx.Response(200, headers=stream.headers, text=text)
    else:
        answer = await client.request(method, path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].partition(";")[0] == next(iter(operation["responses"]["200"]["content"]))
    Checker(DOCUMENTS[api]).check(operation, answer)


async def test_answers_without_a_promised_key_are_found(asked: Served) -> None:
    operation = DOCUMENTS["operator"]["paths"]["/admin/v1/status"]["get"]
    lacking = (await asked.admin.get("/admin/v1/status")).json()
    del lacking["pid"]
    with pytest.raises(Exception, match="'pid' is a required property"):
        Checker(DOCUMENTS["operator"]).check(operation, httpx.Response(200, json=lacking))


# -- any request


async def ask(served: Served, api: str, asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    answer = await client_of(served, api).request(asked.method, asked.url, content=asked.content, headers=asked.headers)
    operation = DOCUMENTS[api]["paths"][asked.template][asked.method.lower()]
    Checker(DOCUMENTS[api]).check(operation, answer)
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR and record.name == "modvisor.http"]
    assert not errors, errors
    caplog.clear()


AGENTS = requests(DOCUMENTS["agents"], LEFT_OUT)
OPERATOR = requests(DOCUMENTS["operator"], LEFT_OUT)
QUICK = settings(max_examples=40, suppress_health_check=list(HealthCheck))


@QUICK
@given(request_=AGENTS)
async def test_any_request_of_an_agent_is_answered_as_the_document_says(
    asked: Served, request_: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    await ask(asked, "agents", request_, caplog)


@QUICK
@given(request_=OPERATOR)
async def test_any_request_of_the_operator_is_answered_as_the_document_says(
    asked: Served, request_: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    await ask(asked, "operator", request_, caplog)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("api", DOCUMENTS)
async def test_a_flood_of_requests_of_any_kind_breaks_nothing(
    asked: Served, api: str, caplog: pytest.LogCaptureFixture, tell: Callable[[str], None]
) -> None:
    """For so many minutes as FUZZ_MINUTES says; the memory stays where it was."""
    drawn: list[Asked] = []
    count, ends = 0, time.monotonic() + MINUTES * 60
    before = 0

    @settings(max_examples=200, suppress_health_check=list(HealthCheck), database=None)
    @given(request_=AGENTS if api == "agents" else OPERATOR)
    def draw(request_: Asked) -> None:
        drawn.append(request_)

    while time.monotonic() < ends:
        drawn.clear()
        draw()
        for each in drawn:
            await ask(asked, api, each, caplog)
            count += 1
        assert (await asked.agents.get("/api/health")).status_code == 200
        before = before or psutil.Process().memory_info().rss
    grown = psutil.Process().memory_info().rss - before
    tell(f"fuzz of the {api} API: {count} requests, memory +{grown / 1e6:.1f} MB")
    assert grown < 60_000_000
