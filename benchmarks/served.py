"""A network in a process of its own, for clients to connect to."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil


@asynccontextmanager
async def served(folder: Path, text: str, patience: float = 30.0) -> AsyncIterator[tuple[psutil.Process, int]]:
    """Run the network of a network file in a folder. Yield its process, and its port.

    Args:
        text: of the network file.
        patience: seconds within which it must serve.
    """
    (folder / "network.yaml").write_text(text)
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "modvisor", "run", str(folder / "network.yaml")]
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)
        try:
            port = await _port(folder / ".modvisor" / "run" / "admin.sock", patience)
            yield psutil.Process(process.pid), port
        finally:
            process.terminate()
            await process.wait()


async def _port(admin: Path, patience: float) -> int:
    async with asyncio.timeout(patience):
        while not os.path.exists(admin):  # noqa: ASYNC110, ASYNC240 - another process makes it
            await asyncio.sleep(0.05)
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(admin)), base_url="http://admin") as client:
        return (await client.get("/admin/v1/status")).json()["port"]


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process has used."""
    times = process.cpu_times()
    return times.user + times.system
