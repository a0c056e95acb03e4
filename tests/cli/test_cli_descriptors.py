"""A network whose connections have taken every descriptor: its mods come back, it is watched, the operator gets in."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from modvisor.supervisor.process.descriptors import Reserve
from tests.conftest import until

from .conftest import Command, Running

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


@pytest.fixture
def connections() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def limit(running: Running, descriptors: int) -> None:
    """Set the soft limit of the network's process."""
    _, hard = resource.prlimit(running.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(running.pid, resource.RLIMIT_NOFILE, (descriptors, hard))


def take_all() -> Iterator[int]:
    """Open descriptors of this process until there are no more."""
    while True:
        yield os.open(os.devnull, os.O_RDONLY)


def exhaust(running: Running, port: int, connections: ExitStack) -> None:
    """Let idle connections take what descriptors the network has left."""
    highest = max(int(name) for name in os.listdir(f"/proc/{running.pid}/fd"))
    limit(running, highest + 3)
    for _ in range(highest + 20):
        connections.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))


@pytest.mark.slow
async def test_without_descriptors_a_mod_comes_back_and_the_operator_gets_in(
    start: Callable[..., Running], cli: Command, connections: ExitStack
) -> None:
    running = start(ready=False)
    port = running.until("ready")["port"]
    exhaust(running, port, connections)
    for crashes in (1, 2):
        before = cli.json("ps")["mods"][0]
        os.kill(before["pid"], signal.SIGKILL)

        def is_back(crashes: int = crashes, pid: int = before["pid"]) -> bool:
            mod = cli.json("ps")["mods"][0]
            assert mod["state"] != "quarantined", mod["last_error"]
            return mod["state"] == "ready" and mod["pid"] != pid and mod["restarts"] == crashes

        await until(is_back, timeout=30)
    assert cli.json("send", "test.ping", '{"i": 1}')["data"]["pong"] == 1


async def test_a_start_that_lacks_descriptors_is_not_held_against_the_mod(
    start: Callable[..., Running], cli: Command
) -> None:
    """Not even the reserve helps here: the limit lies below it."""
    policy = "{max_restarts: 1, first_delay: 0.01s, max_delay: 0.01s}"
    network = f"network: {{name: demo}}\nmods:\n  - path: ./echo\n    restart: {policy}\n"
    running = start(network=network)
    worker = cli.json("ps")["mods"][0]["pid"]
    limit(running, 3)
    os.kill(worker, signal.SIGKILL)
    await until(lambda: running.stderr.count("restart failed") > 4)
    limit(running, 512)
    await until(lambda: cli("send", "test.ping", "{}").exit_code == 0)
    assert "quarantined" not in running.stderr
    assert "Too many open files" in running.stderr


def test_the_reserve_is_lent_and_taken_back() -> None:
    reserve = Reserve(4)
    with reserve.kept():
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken: list[int] = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 2, hard))
            with pytest.raises(OSError, match="Too many open files"):
                taken.extend(take_all())
            pair = reserve.with_spare(os.pipe)
            with pytest.raises(OSError, match="Too many open files"):
                os.open(os.devnull, os.O_RDONLY)
            for fd in pair:
                os.close(fd)
            reserve.refill()
            with pytest.raises(OSError, match="Too many open files"):
                os.open(os.devnull, os.O_RDONLY)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken:
                os.close(fd)
