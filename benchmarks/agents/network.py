"""A network in a process of its own, for agents to connect to."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil

from .member import PASSWORD_HASH

# The agents of one machine are many; what waits for guests is bounded tightly, so that a run reaches the bound.
NETWORK = f"""
network: {{name: agents, port: 0}}
agent_groups: {{members: {{password_hash: {PASSWORD_HASH}}}}}
agents: {{guest_inbox_bytes: 33554432}}
http: {{trusted_addresses: [127.0.0.1]}}
"""


@asynccontextmanager
async def network(folder: Path) -> AsyncIterator[tuple[psutil.Process, int]]:
    """Yield the process of a network, and its port."""
    (folder / "network.yaml").write_text(NETWORK)
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "modvisor", "run", str(folder / "network.yaml")]
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        try:
            yield psutil.Process(process.pid), await _port(folder / ".modvisor" / "run" / "admin.sock")
        finally:
            process.terminate()
            await process.wait()


async def _port(admin: Path) -> int:
    async with asyncio.timeout(60):
        while not os.path.exists(admin):  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.05)
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(admin)), base_url="http://admin") as client:
        return (await client.get("/admin/v1/status")).json()["port"]
