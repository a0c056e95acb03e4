"""A network imports what it uses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, json, sys
from modvisor.supervisor import AgentNetwork

async def main():
    config = {"network": {"name": "lean", "storage": sys.argv[1], **json.loads(sys.argv[2])}}
    async with AgentNetwork.from_config(config) as network:
        print(json.dumps([*sys.modules]))

asyncio.run(main())
"""

HTTP = {"uvicorn", "starlette", "modvisor.supervisor.http.server"}


def imported(tmp_path: Path, **network: object) -> set[str]:
    """Return the modules of a program that runs this network."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "state"), json.dumps(network)]
    return set(json.loads(subprocess.run(command, capture_output=True, check=True, text=True, timeout=30).stdout))


@pytest.mark.timeout(60)
def test_a_network_without_a_port_imports_no_server_and_no_watcher(tmp_path: Path) -> None:
    found = imported(tmp_path)
    assert not found & {*HTTP, "watchfiles"}


@pytest.mark.timeout(60)
def test_a_network_with_a_port_has_its_server(tmp_path: Path) -> None:
    assert imported(tmp_path, port=0) >= HTTP
