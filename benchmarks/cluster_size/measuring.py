"""Measures what one entry costs, with a real server: bytes, processor time, memory."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from modvisor.supervisor.cluster.link import Bucket, Link, token
from modvisor.supervisor.cluster.link.embedded import find_program
from modvisor.supervisor.config import ClusterConfig, EnvValue

from ..speed.calibration import Scale
from .entries import KINDS
from .model import Constants, Entry

SECRET = "measured-with-a-secret-of-its-own-71"
SAMPLE = 1000
"""Entries that are written and mirrored to measure one kind."""

AT_ONCE = 64
"""Writes in flight at a time."""


class Server:
    """One real NATS server that counts what it carries."""

    def __init__(self, folder: Path) -> None:
        self.port, self._http = _free_port(), _free_port()
        said = {
            "listen": f"127.0.0.1:{self.port}",
            "http": f"127.0.0.1:{self._http}",
            "jetstream": {"store_dir": str(folder / "jetstream"), "sync_interval": "always"},
        }
        (folder / "server.conf").write_text(json.dumps(said))
        with open(folder / "log", "wb") as log:
            command = [find_program(), "--config", str(folder / "server.conf")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    async def ready(self) -> None:
        while True:
            assert self.process.poll() is None, "the server has ended"
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return

    def counted(self) -> tuple[int, int, int, float]:
        """Return bytes in, bytes out and messages out of all connections, and the server's processor seconds."""
        with urlopen(f"http://127.0.0.1:{self._http}/varz", timeout=10) as answer:
            found = json.load(answer)
        times = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        cpu = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
        return found["in_bytes"], found["out_bytes"], found["out_msgs"], cpu

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return tried.getsockname()[1]


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Server, Callable[[str], Awaitable[Link]]]]:
    """Start a server; yields it, and what makes links to it."""
    async with AsyncExitStack() as ends:
        folder = Path(ends.enter_context(tempfile.TemporaryDirectory()))
        server = Server(folder)
        ends.callback(server.close)
        await server.ready()

        async def linked(node: str) -> Link:
            config = ClusterConfig(
                servers=(f"nats://127.0.0.1:{server.port}",), node=node, network="size", replicas=1, timeout=30.0,
                secret=EnvValue(literal=SECRET),
            )  # fmt: skip
            link = Link(config, "size", node)
            await link.open()
            ends.push_async_callback(link.close)
            return link

        yield server, linked


async def written(bucket: Bucket, kind: str, numbers: Iterable[int], known: dict[int, int]) -> None:
    """Write entries of one kind, many at a time.

    Args:
        known: the revision of each entry, which this follows: a node knows those that it writes again.
    """
    make, waiting = KINDS[kind][1], asyncio.Semaphore(AT_ONCE)

    async def put(number: int) -> None:
        async with waiting:
            known[number] = await bucket.put(f"{kind}.{token(str(number))}", make(number), known.get(number, 0))

    async with asyncio.TaskGroup() as tasks:
        for number in numbers:
            tasks.create_task(put(number))


class Mirror:
    """The entries of one kind in the memory of a node."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}
        self.told = 0
        self._wanted = 0
        self._there = asyncio.Event()

    async def open(self, bucket: Bucket, kind: str) -> Mirror:
        watch = await bucket.watch(f"{kind}.", self._changed)
        await watch.caught_up()
        return self

    def _changed(self, key: str, value: Any | None, revision: int) -> None:
        self.told += 1
        if value is None:
            self.entries.pop(key, None)
        else:
            self.entries[key] = value
        if self.told >= self._wanted:
            self._there.set()

    async def until(self, told: int) -> None:
        """Wait until so many changes were told."""
        self._wanted = told
        self._there.clear()
        if self.told < told:
            await self._there.wait()


async def entry_of(kind: str, server: Server, linked: Callable[[str], Awaitable[Link]]) -> tuple[Entry, float, float]:
    """Measure one kind of entry. Also returns the writes per second, and the server's µs for a delivered message."""
    writer, reader = await linked(f"writer-{kind}"), await linked(f"reader-{kind}")
    bucket, there = await writer.bucket(KINDS[kind][0]), await reader.bucket(KINDS[kind][0])
    known: dict[int, int] = {}
    await written(bucket, kind, range(SAMPLE), known)  # what is written again names the write that it follows
    begin, before = time.perf_counter(), server.counted()
    await written(bucket, kind, range(SAMPLE), known)
    alone, seconds = server.counted(), time.perf_counter() - begin
    gc.collect()
    tracemalloc.start()
    mirror = await Mirror().open(there, kind)
    gc.collect()
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    caught = server.counted()
    with Scale() as scale:
        cpu = time.process_time()
        mirror = await Mirror().open(there, kind)
        cpu = time.process_time() - cpu
    assert len(mirror.entries) >= SAMPLE
    wire = (alone[0] - before[0]) / SAMPLE
    watched = (caught[1] - alone[1]) / SAMPLE
    server_us = (caught[3] - alone[3]) / SAMPLE * 1e6
    return Entry(wire, watched, cpu / SAMPLE * 1e6 * scale.factor, memory / SAMPLE), SAMPLE / seconds, server_us


async def measured() -> Constants:
    """Measure the constants, with one server."""
    async with served() as (server, linked):
        found = {kind: await entry_of(kind, server, linked) for kind in KINDS}
        reader = await linked("new")
        begin = time.perf_counter()
        await Mirror().open(await reader.bucket(KINDS["agent"][0]), "agent")
        caught_up = SAMPLE / (time.perf_counter() - begin)
    return Constants(
        {kind: entry for kind, (entry, _, _) in found.items()},
        sum(writes for _, writes, _ in found.values()) / len(found),
        caught_up,
        max(1.0, sum(us for _, _, us in found.values()) / len(found)),
    )
