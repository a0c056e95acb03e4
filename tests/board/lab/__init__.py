"""A network for the dashboard: `modvisor run` in a process of its own, with the mods of this folder, and traffic."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, nullcontext
from pathlib import Path
from threading import Thread
from typing import Any

import httpx

from modvisor_client import AgentClient

HERE = Path(__file__).parent
RUN = [sys.executable, "-m", "modvisor", "run"]
PASSWORD = "open sesame"

MODS: list[dict[str, Any]] = [
    {"path": "./orders", "limits": {"memory": "128MB"}},
    {"path": "./prices", "limits": {"memory": "128MB", "cpu": 1}},
    {"path": "./rates"},
    {"path": "./stock"},
    {"path": "./mailer", "limits": {"memory": "96MB"}},
    {"path": "./search", "workers": 2, "config": {"delay": 0.02}},
    {"path": "./search", "id": "search@2", "audience": {"percent": 20}},
    {"path": "./moody", "restart": {"first_delay": "50ms", "max_restarts": 3}, "max_attempts": 1},
    {"path": "modvisor.mods.workspace.messaging"},
    {"path": "modvisor.mods.workspace.wiki"},
]


class Lab:
    """A running network.

    Attributes:
        url: where the dashboard is.
        socket: the admin API's.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[str], url: str) -> None:
        self.folder = folder
        self.url = url
        self.socket = folder / ".modvisor" / "run" / "admin.sock"
        self._process = process
        # What a network says must be read, or it waits for a reader.
        self._reader = Thread(target=self._read_on)
        self._reader.start()

    def send(self, name: str, source: str = "alice", **payload: Any) -> None:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket)), base_url="http://admin/admin/v1"
        ) as admin:
            admin.post("/events", json={"event_name": name, "source_id": source, "payload": payload}, timeout=30)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._reader.join()

    def _read_on(self) -> None:
        with self._process.stdout or nullcontext(()) as stdout:
            for _ in stdout:
                pass


@contextmanager
def running(folder: Path, mods: list[dict[str, Any]] | None = None, **keys: Any) -> Iterator[Lab]:
    """Run a network in ``folder``; ``keys`` are other keys of its file."""
    shutil.copytree(HERE / "mods", folder / "mods", ignore=shutil.ignore_patterns("__pycache__"))
    group = {"password_hash": hashlib.sha256(PASSWORD.encode()).hexdigest(), "permissions": ["agents"]}
    config = {
        "network": {"name": "corner-shop", "host": "127.0.0.1", "port": 0},
        "agent_groups": {"shops": group, "sensors": group},
        "mods": MODS if mods is None else mods,
        **keys,
    }
    file = folder / "network.yaml"
    file.write_text(json.dumps(config), "utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with (folder / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [*RUN, str(file), "--json"], stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        )
    lab = None
    try:
        lab = Lab(folder, process, _url(process))
        yield lab
    finally:
        if lab is not None:
            lab.stop()
        else:
            process.kill()
            process.wait(10)


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        said = json.loads(line)
        if said.get("happened") == "ready":
            return said["url"]
        assert "error" not in said, said
    raise AssertionError("the network did not start")


async def trade(url: str, seconds: float, pause: float = 0.01) -> None:
    """Have agents of two groups send events for a while."""
    async with AsyncExitStack() as stack:
        shops = [AgentClient(url, f"shop-{i}", group="shops", password=PASSWORD) for i in range(1, 5)]
        sensors = [AgentClient(url, f"sensor-{i}", group="sensors", password=PASSWORD) for i in range(1, 4)]
        for agent in (*shops, *sensors):
            await stack.enter_async_context(agent)

        async def run(agent: AgentClient, names: list[str]) -> None:
            turn = 0
            while True:
                await agent.send(names[turn % len(names)], {"item": f"tea-{turn}", "words": "tea"})
                turn += 1
                await asyncio.sleep(pause)

        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for agent in shops:
                group.create_task(run(agent, ["orders.place", "search.for", "orders.place"]))
            for agent in sensors:
                group.create_task(run(agent, ["stock.take", "rates.today"]))
