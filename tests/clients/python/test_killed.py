"""An agent that is killed, and started again with its secret and its cursor: no event is lost, and none is done twice."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from modvisor_client import AgentClient
from tests import warm
from tests.conftest import until
from tests.http.serving import Served, shared_network

pytestmark = pytest.mark.anyio

AGENT = """
import json, os, sys
import anyio
from modvisor_client import AgentClient

async def main(url, secret, done):
    lines = open(done, "rb").read().splitlines()
    cursor = json.loads(lines[-1])["cursor"] if lines else None
    output = os.open(done, os.O_WRONLY | os.O_APPEND)
    async with AgentClient(url, "bob", secret_file=secret, cursor=cursor, window=8) as me:
        async for event in me.events("test.count"):
            os.write(output, json.dumps({"i": event.payload["i"], "cursor": event.cursor}).encode() + b"\\n")

anyio.run(main, *sys.argv[1:])
"""


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with shared_network(tmp_path, {}) as served:
        yield served


@pytest.mark.slow
async def test_no_event_is_lost_or_done_twice(served: Served, tmp_path: Path) -> None:
    events, url, done = 200, f"http://127.0.0.1:{served.network.port}", tmp_path / "done"
    done.touch()
    command = [sys.executable, "-c", AGENT, url, str(tmp_path / "secret"), str(done)]

    def count() -> int:
        return done.read_bytes().count(b"\n")

    bob = warm.Popen(command)
    try:
        await until(lambda: "bob" in served.network.agent_directory())
        async with AgentClient(url, "ann") as ann:
            for i in range(events):
                await ann.send("test.count", {"i": i}, to="bob")
                if i % 60 == 40:
                    await until(lambda due=i - 20: count() > due)
                    bob.kill()
                    bob.wait(10)
                    bob = warm.Popen(command)
        await until(lambda: count() >= events)
    finally:
        bob.kill()
        bob.wait(10)
    assert [json.loads(line)["i"] for line in done.read_text().splitlines()] == [*range(events)]
