"""What a stranger finds who scans the TCP port: health, registration if it is open, and nothing else."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.http.documents import documents
from tests.agents.registries import password
from tests.guardians import templates
from tests.http.serving import TALKER, Served, shared_network

pytestmark = pytest.mark.anyio

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
COMMON = (
    "/", "/index.html", "/login", "/docs", "/redoc", "/openapi.json", "/swagger.json", "/metrics", "/status", "/health",
    "/.env", "/.git/config", "/network.yaml", "/.modvisor/network.db", "/static/../../network.yaml", "/api", "/api/",
    "/api/agents", "/api/mods", "/api/events", "/admin", "/admin/", "/admin/v1", "/admin/v2/status", "//admin/v1/status",
    "/api/../admin/v1/status", "/api/%2e%2e/admin/v1/status", "/ADMIN/v1/status", "/admin/v1/status/", "/ws", "/debug",
)  # fmt: skip
HIDDEN = ("canary-agent", "canary-channel", "canary-token", "Traceback")
"""What no answer to a stranger may hold: names of agents, channels and tokens."""


@pytest.fixture(scope="module", params=["open", "closed"])
async def scanned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder: Path = tmp_path_factory.mktemp("scanned")
    async with shared_network(
        folder,
        {"canary-mod": TALKER},
        admin={"token": "a token that strangers do not have"},
        agents={"registration": request.param},
        agent_groups={"friends": {"password_hash": password("sesame"), "permissions": ["mods", "agents", "channels"]}},
    ) as served:
        network = served.network
        assert (await network.register_agent("canary-agent")).success
        payload = {"channel": "canary-channel", "agent_id": "canary-agent"}
        joined = await network.process_event(Event("system.add_channel_member", "system:system", payload=payload))
        assert joined.success, joined
        await network.create_token("canary-token", "admin")
        yield served


def targets() -> list[str]:
    """Return the paths of both APIs, and what scanners try."""
    paths = [path for document in documents().values() for path in document["paths"]]
    return [*(path.replace("{", "").replace("}", "") for path in paths), *COMMON]


def succeeded(answer: httpx.Response) -> bool:
    if answer.status_code >= 400:
        return False
    try:
        return json.loads(answer.content).get("success", True)
    except ValueError:
        return True


BODIES: tuple[dict[str, Any], ...] = (
    {},
    {"agent_id": "mallory", "event_name": "system.mod.load", "source_id": "mallory", "payload": {"mod_path": "canary"}},
    {"agent_id": "somebody", "event_name": "system.list_agents", "source_id": "system:system", "secret": "guess"},
    {"agent_id": "somebody", "event_name": "system.list_mods", "source_id": "mod:canary-mod"},
    {"path": "./canary-mod", "name": "mine", "scope": "admin"},
)


@pytest.mark.parametrize(
    "methods", [("GET", "POST"), pytest.param(METHODS, marks=pytest.mark.slow)], ids=["few", "all"]
)
async def test_a_stranger_reaches_health_and_registration_only(scanned: Served, methods: tuple[str, ...]) -> None:
    reached, told = set[str](), []
    for path in targets():
        for method in methods:
            for body in BODIES if method == "POST" and methods is METHODS else BODIES[:2]:
                sent = {"json": body} if body and method in ("POST", "PUT", "PATCH") else {}
                query = {"agent_id": "somebody", "secret": "guess"} if method == "GET" else {}
                answer = await scanned.agents.request(method, path, params=query, **sent)
                assert answer.status_code < 500 or answer.status_code == 501, (method, path, answer.text)
                told.append(answer.text)
                if succeeded(answer):
                    reached.add(f"{method} {path}")
    is_open = scanned.network.config.agents.registration == "open"
    probes = ("/healthz", "/readyz")
    reached -= {f"HEAD {path}" for path in probes}  # the short form does not try it
    assert reached == {
        "GET /api/health",
        *(f"GET {path}" for path in probes),
        *(["POST /api/register"] if is_open else []),
    }
    folder = str(scanned.network.state_dir.root.parent)
    assert [text for text in told for word in (*HIDDEN, folder) if word in text] == []
    assert list(scanned.network.get_loaded_mods()) == ["canary-mod"]
    assert scanned.network.agent_directory().keys() >= {"canary-agent"}


async def test_other_tongues_reach_nothing(scanned: Served) -> None:
    for words in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
        b"GET http://169.254.169.254/latest/ HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
        b"GET /admin/v1/status HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"*1\r\n$4\r\nINFO\r\n",
        b"SSH-2.0-scan\r\n",
    ):
        answer = await scanned_bytes(scanned.network, words)
        assert not answer.startswith(b"HTTP/1.1 2"), (words, answer)


async def scanned_bytes(network: AgentNetwork, words: bytes) -> bytes:
    async with await anyio.connect_tcp("127.0.0.1", network.port or 0) as stream:
        await stream.send(words)
        await stream.send_eof()
        answer = b""
        try:
            while True:
                answer += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return answer


async def test_the_processes_of_the_network_listen_on_its_port_alone(scanned: Served) -> None:
    ours = psutil.Process()
    started = [child for child in ours.children(recursive=True) if child.pid not in templates]
    listening = {
        (each.laddr.ip, each.laddr.port)
        for process in [ours, *started]
        for each in process.net_connections("inet")
        if each.status == psutil.CONN_LISTEN or each.type == socket.SOCK_DGRAM
    }
    assert listening == {("127.0.0.1", scanned.network.port)}


async def test_what_was_refused_is_in_the_audit_summed(scanned: Served) -> None:
    network = scanned.network
    for _ in range(30):
        await scanned.agents.get("/admin/v1/status")
        await scanned.agents.get("/api/poll", params={"agent_id": "somebody", "secret": "guess"})
        await scanned.agents.get("/api/health", headers={"Host": "evil.example.com"})
    network.refusals.tell()
    await network.audited("test.mark", do=network.sample_resources)
    lines = (network.state_dir.root / "audit" / "audit.jsonl").read_text().splitlines()
    sums = [each for each in map(json.loads, lines) if each["what"] == "refused" and each["from"] == "127.0.0.1"]
    counts = {kind: sum(each["detail"]["count"] for each in sums if each["outcome"] == kind) for kind in
              ("unauthenticated", "forbidden")}  # fmt: skip
    assert counts["unauthenticated"] >= 60
    assert counts["forbidden"] >= 30
    assert len(sums) <= 8
