"""A network that is suspended and goes on: what was due meanwhile is put off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import until

from .conftest import COMMAND, DEADLINE, Command, Running

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60), pytest.mark.slow]

NETWORK = """
network: {name: demo, port: 0, event_timeout: 1s}
agents: {expire_after: 1s}
mods:
  - path: ./napper
    limits: {hang_timeout: 1s}
"""
NAPPER = """
    import asyncio, os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Napper(BaseMod):
        @mod_event_handler("nap.take")
        async def nap(self, event):
            while not os.path.exists(event.payload["until"]):
                await asyncio.sleep(0.005)
            return EventResponse(True, "slept")
"""
SUSPENDED = 4.0  # seconds: longer than each of the times above, and than the pause between two looks for agents


def post(url: str, path: str, **fields: Any) -> Any:
    request = urllib.request.Request(url + path, json.dumps(fields).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
        return json.load(answer)


@pytest.mark.parametrize("with_worker", [False, True], ids=["alone", "with its worker"])
async def test_nothing_is_late_because_the_network_was_suspended(
    start: Callable[..., Running], cli: Command, write_mod: Callable[..., str], tmp_path: Path, with_worker: bool
) -> None:
    write_mod("napper", NAPPER)
    running = start(network=NETWORK, ready=False)
    ready = running.until("ready")
    secret = post(ready["url"], "/api/register", agent_id="bob")["secret"]
    pids = [running.pid, ready["mods"][0]["pid"]][: 2 if with_worker else 1]
    morning = tmp_path / "morning"
    payload = json.dumps({"until": str(morning)})
    with subprocess.Popen([*COMMAND, "send", "nap.take", payload], stdout=subprocess.PIPE, text=True) as sender:
        await until(lambda: cli.json("stats", "napper")["traffic"]["in_flight"] == 1)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await until(lambda: all(psutil.Process(pid).status() == psutil.STATUS_STOPPED for pid in pids))
        morning.touch()
        time.sleep(SUSPENDED)  # the pause itself
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        answer, _ = sender.communicate(timeout=DEADLINE)
    assert answer == "slept\n"
    with urllib.request.urlopen(
        f"{ready['url']}/api/poll?agent_id=bob&secret={secret}&timeout=0", timeout=DEADLINE
    ) as polled:
        assert json.load(polled)["success"]
    mod = cli.json("ps")["mods"][0]
    assert (mod["pid"], mod["crashes"]) == (ready["mods"][0]["pid"], 0)
    assert "stood still for" in running.stderr
