"""What an event to a mod on another node costs, beside a bare request of nats-py in the same run.

    python -m benchmarks.cluster                    # round trip, and throughput at 64 in flight
    python -m benchmarks.cluster --rounds 20

One server, one node here, and one node in a process of its own that has the mod, whose worker is a
third. The bare request goes to a process that answers at once. Both take turns, so that what else the
machine does falls on both; the figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nats

from modvisor.supervisor import AgentNetwork, Event

MOD = """
from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Echo(BaseMod):
    @mod_event_handler("bench.ping")
    async def ping(self, event):
        return EventResponse(True, data=event.payload)
"""
ECHO = """
import asyncio, sys, nats
async def main():
    nc = await nats.connect(sys.argv[1])
    async def answer(message):
        await nc.publish(message.reply, message.data)
    await nc.subscribe("bare.ping", cb=answer)
    await nc.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
PAYLOAD = {"i": 1, "text": "x" * 100}
IN_FLIGHT = 64
GOAL_TIME, GOAL_RATE = 1.6, 0.6

Once = Callable[[], Awaitable[Any]]


async def alone(once: Once, count: int) -> float:
    """Return the median time of requests one after the other, in ms."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await once()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


async def together(once: Once, count: int) -> float:
    """Return the requests per second with `IN_FLIGHT` under way."""

    async def some() -> None:
        for _ in range(count // IN_FLIGHT):
            await once()

    started = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))
    return count // IN_FLIGHT * IN_FLIGHT / (time.perf_counter() - started)


def node_config(url: str, folder: Path, node: str) -> dict[str, Any]:
    return {
        "network": {"name": "bench", "storage": str(folder / node)},
        "cluster": {"servers": [url], "network": "bench", "node": node, "secret": "of-the-benchmark", "lease": 10},
        "mods": [{"path": "./echo", "placement": {"on": ["b"]}}],
    }


def started(stack: ExitStack, *command: str, **more: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, **more)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def server(stack: ExitStack, folder: Path) -> str:
    """Start a server; return its URL."""
    program = Path(sys.executable).with_name("nats-server")
    config = folder / "server.conf"
    config.write_text(f'listen: "127.0.0.1:-1"\nports_file_dir: "{folder}"\njetstream {{ store_dir: "{folder}/js" }}\n')
    process = started(stack, str(program), "-c", str(config), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for file in folder.glob(f"nats-server*{process.pid}.ports"):
            if text := file.read_text():
                return json.loads(text)["nats"][0]
        time.sleep(0.02)
    raise TimeoutError("the NATS server did not start")


async def measure(rounds: int, folder: Path, stack: ExitStack) -> dict[str, list[float]]:
    url = server(stack, folder)
    (folder / "mods" / "echo").mkdir(parents=True)
    (folder / "mods" / "echo" / "mod.py").write_text(MOD)
    (folder / "b.yaml").write_text(json.dumps(node_config(url, folder, "b")))
    log = stack.enter_context((folder / "b.log").open("wb"))
    started(stack, sys.executable, "-m", "modvisor", "run", str(folder / "b.yaml"), stdout=log, stderr=log)
    echo = started(stack, sys.executable, "-c", ECHO, url, stdout=subprocess.PIPE)
    assert echo.stdout is not None
    await asyncio.to_thread(echo.stdout.readline)
    network = AgentNetwork.from_config(node_config(url, folder, "a"), base_dir=folder)
    connection = await nats.connect(url)
    body = json.dumps(PAYLOAD).encode()

    async def bare() -> None:
        await connection.request("bare.ping", body, timeout=10)

    async def event() -> None:
        answer = await network.process_event(Event("bench.ping", "agent:a", "mod:echo", payload=PAYLOAD))
        assert answer.success, answer

    try:
        await network.initialize()
        return await in_turns({"bare": bare, "event": event}, rounds)
    finally:
        await network.shutdown()
        await connection.close()


async def in_turns(ways: dict[str, Once], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for each in ways.values():
        await together(each, 1280)
    for _ in range(rounds):
        for name, once in ways.items():
            found.setdefault(f"{name} ms", []).append(await alone(once, 200))
            found.setdefault(f"{name} per s", []).append(await together(once, 1920))
    return found


def told(found: dict[str, list[float]]) -> list[str]:
    middle = {name: statistics.median(values) for name, values in found.items()}
    time_ratio, rate_ratio = middle["event ms"] / middle["bare ms"], middle["event per s"] / middle["bare per s"]
    return [
        f"round trip      bare nc.request {middle['bare ms']:.3f} ms   event to a mod elsewhere "
        f"{middle['event ms']:.3f} ms   x {time_ratio:.2f} (goal: at most {GOAL_TIME})",
        f"{IN_FLIGHT} in flight    bare nc.request {middle['bare per s']:.0f}/s   event to a mod elsewhere "
        f"{middle['event per s']:.0f}/s   x {rate_ratio:.2f} (goal: at least {GOAL_RATE})",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        found = asyncio.run(measure(arguments.rounds, Path(folder), stack))
    for line in told(found):
        print(line)


if __name__ == "__main__":
    main()
