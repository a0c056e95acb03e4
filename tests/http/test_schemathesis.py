"""Schemathesis asks both APIs whatever their documents suggest, and things that they do not."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from tests.http.serving import TALKER, Served, shared_network

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(300)]

FOLDER = Path(__file__).parents[2] / "docs" / "openapi"
TOKEN = "an-operator-token-of-this-test"
EXAMPLES = "5"  # of each operation, besides those that cover its document

# What has no end or ends the network, and what would write a file where the request says.
LEFT_OUT = {
    "agents": ["/api/events"],
    # Wrong logins count as guesses, after which the operator of this test would have to wait, too.
    "operator": ["/board/login", "/admin/v1/shutdown", "/admin/v1/backup", "/admin/v1/events", "/admin/v1/live"],
}
# Success and failure share a document entry, and a wrong token is refused before a wrong method is.
CHECKS = "not_a_server_error,content_type_conformance,response_schema_conformance,status_code_conformance"


@pytest.fixture(scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    keys: dict[str, Any] = {
        "allowed_mods": ["./talker"],
        "agents": {"max_agents": 50},
        "admin": {"token": TOKEN},
        "http": {"stranger_share": 1},
    }
    async with shared_network(tmp_path_factory.mktemp("schemathesis"), {"talker": TALKER}, **keys) as served:
        yield served


@pytest.mark.parametrize("api", ["agents", "operator"])
async def test_no_request_is_answered_otherwise_than_the_document_says(
    served: Served, api: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"http://127.0.0.1:{served.network.port}"
    left_out = [option for path in LEFT_OUT[api] for option in ("--exclude-path", path)]
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", str(FOLDER / f"{api}.json"), "--url", url, *left_out,
        "--checks", CHECKS, "--max-examples", EXAMPLES, "--phases", "coverage,fuzzing", "--continue-on-failure",
        "--header", f"Authorization: Bearer {TOKEN}", "--request-timeout", "20", "--warnings", "off",
        "--report-json-path", str(tmp_path / "report.json"),
    ]  # fmt: skip
    run = partial(subprocess.run, command, capture_output=True, text=True, cwd=tmp_path, timeout=240, check=False)
    done = await anyio.to_thread.run_sync(run)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["operations"]["tested"] == report["operations"]["selected"], report["operations"]
    assert report["test_cases"]["generated"] > 150
    ours = [each for each in caplog.records if each.levelno >= logging.ERROR and each.name.startswith("modvisor.http")]
    assert not ours, ours
    assert (await served.agents.get("/api/health")).status_code == 200
