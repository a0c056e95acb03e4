"""OpenAgents' own client (0.9.3, from PyPI, in an environment of its own) against a modvisor network."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent.parent
(REQUIREMENT,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["peers"]
CLIENT = Path(__file__).parent / "openagents_client.py"

ECHO = """
    from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

    class Echo(BaseMod):
        version = "1.2"
        description = "gives back what it gets"

        @mod_event_handler("peer.page.echo")
        async def echo(self, event):
            return EventResponse(True, "echoed", data={"payload": event.payload, "from": event.source_id})

        @mod_event_handler("peer.page.forward")
        async def forward(self, event):
            to, rest = event.payload["to"], {"i": event.payload["i"]}
            await self.context.send_event(Event("peer.page.forwarded", destination_id=f"agent:{to}", payload=rest))
            return EventResponse(True)
"""


@pytest.fixture(scope="session")
def openagents_python() -> Path:
    """The interpreter of an environment with OpenAgents; made once, in MODVISOR_PEERS_DIR or .venv-peers."""
    folder = Path(os.environ.get("MODVISOR_PEERS_DIR") or ROOT / ".venv-peers") / "openagents"
    python, ready = folder / "bin" / "python", folder / ".ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "openagents.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be at it
        if not (ready.exists() and ready.read_text() == REQUIREMENT):
            venv.create(folder, clear=True, with_pip=True)
            pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
            subprocess.run([*pip, "--no-compile", REQUIREMENT], check=True, timeout=800)
            ready.write_text(REQUIREMENT)
    return python


@pytest.fixture
async def seen(
    openagents_python: Path, make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str], tmp_path: Path
) -> dict[str, Any]:
    """What OpenAgents' clients saw of a network with an echo mod and the bundled wiki."""
    network = make_network(
        {"port": 0},
        mods=[write_mod("echo", ECHO), {"path": "modvisor.mods.workspace.wiki", "config": {"public": True}}],
    )
    await network.initialize()
    client = await asyncio.create_subprocess_exec(
        openagents_python, "-P", CLIENT, "127.0.0.1", str(network.port),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=tmp_path,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            output, errors = await client.communicate()
    finally:
        if client.returncode is None:
            client.kill()
            await client.wait()
    print(errors.decode("utf-8", "replace")[-20_000:], file=sys.stderr)
    assert client.returncode == 0
    return json.loads(output)


async def test_openagents_own_client_works_unchanged(seen: dict[str, Any]) -> None:
    assert seen["connected"] == [True, True]
    assert seen["transport"] == "HTTPNetworkConnector"
    assert seen["disconnected"] == [True, True]
    assert seen["agents_left"] == 0

    mods = {mod["mod_id"]: mod for mod in seen["mods"]}
    assert set(mods) == {"echo", "wiki"}
    assert (mods["echo"]["version"], mods["echo"]["description"]) == ("1.2", "gives back what it gets")
    assert {agent["agent_id"]: agent["name"] for agent in seen["agents"]} == {"alice": "Alice", "bob": "bob"}

    assert seen["answer"]["success"] is True
    assert seen["answer"]["message"] == "echoed"
    assert seen["answer"]["data"] == {"payload": {"i": 1}, "from": "alice"}
    assert seen["to_mod"]["data"] == {"payload": {"i": 2}, "from": "agent:alice"}
    created, page = seen["wiki"]
    assert created["success"] is True
    assert page["data"]["content"] == "from OpenAgents"

    assert seen["direct"]["sent"]["success"] is True
    message = seen["direct"]["event"]
    assert (message["event_name"], message["payload"]) == ("agent.message", {"text": "grüße"})
    assert (message["source_id"], message["source_type"], message["secret"]) == ("alice", "agent", None)
    forwarded = seen["from_mod"]
    assert forwarded["payload"] == {"i": 3}
    assert (forwarded["source_id"], forwarded["source_type"]) == ("mod:echo", "mod")
    assert seen["subscription"]["success"] is True
    assert seen["subscription"]["data"]["subscription_id"]

    # What is refused reaches their client as a failure with a sentence.
    assert seen["unanswered"]["success"] is False
    assert "peer.nobody.asks" in seen["unanswered"]["message"]
    assert seen["second_client"] is False
    refused = seen["refused"]
    for what in ("load_as_alice", "forged_as_bob", "forged_as_mod", "forged_as_system"):
        assert refused[what]["success"] is False, what
        assert refused[what]["message"], what
    assert "permission" in refused["load_as_alice"]["message"]
    for what, status, code in (
        ("load_as_stranger", 200, "unauthenticated"),
        ("load_as_system", 200, "forbidden"),
        ("second_registration", 409, "id_taken"),
        ("foreign_poll", 200, "unauthenticated"),
    ):
        answer = refused[what]
        assert (answer["status"], answer["success"], answer["error"]) == (status, False, code), what
        assert answer["error_message"], what
    assert refused["foreign_poll"]["messages"] == []
