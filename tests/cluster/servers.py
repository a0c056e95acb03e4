"""Real NATS servers on loopback, for tests: all that they keep is below one folder.

A server that was killed comes back with what it kept, on the port that it had. Whatever happens to
a test, `close` ends every server by its pid.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modvisor.supervisor.cluster.link import Link
from modvisor.supervisor.config import ClusterConfig
from modvisor.supervisor.config.values.env import EnvValue
from tests.guardians import templates
from tests.ports import free_port

PROGRAM = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
SECRET = "tested-with-a-secret-of-the-tests"
START_TIMEOUT = 30.0


def config_of(servers: Servers, node: str = "a", network: str = "net", **more: Any) -> ClusterConfig:
    """How a node of a test joins these servers."""
    more.setdefault("secret", EnvValue(literal=SECRET))
    return ClusterConfig(servers=tuple(servers.urls), node=node, network=network, **more)


def link_to(port: int, **config: Any) -> Link:
    """The link of the node `a` of the network `net` to a server."""
    config.setdefault("servers", (f"nats://127.0.0.1:{port}",))
    config.setdefault("secret", EnvValue(literal=SECRET))
    return Link(ClusterConfig(node="a", network="net", **config), "net", "a")


@dataclass
class Server:
    """One server, which can be killed, stopped, continued and started again."""

    name: str
    folder: Path
    lines: list[str]
    port: int = 0
    is_stopped: bool = False
    process: subprocess.Popen[bytes] | None = None
    scheme: str = "nats"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        config = self.folder / "server.conf"
        config.write_text("\n".join(self.lines))
        log = (self.folder / "log").open("ab")
        with log:
            self.process = subprocess.Popen(
                [str(PROGRAM), "-c", str(config), "-a", "127.0.0.1", "-p", str(self.port)], stdout=log, stderr=log
            )
        templates.add(self.process.pid)  # no network has started it

    def wait_until_ready(self) -> None:
        """Wait until it accepts connections, and keeps things if it is to."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"{self.name} has ended:\n{self.log}"
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                if b"INFO" in connection.recv(4096):
                    return
            time.sleep(0.01)
        raise TimeoutError(f"{self.name} did not start:\n{self.log}")

    def kill(self) -> None:
        """End it at once, as a machine that loses its power; what it kept stays on disk."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()
            templates.discard(self.process.pid)
        self.process, self.is_stopped = None, False

    def stop(self) -> None:
        """Have it stand still. All its threads do when this returns."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)
        self.is_stopped = True

    def cont(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.is_stopped = False

    def restart(self) -> None:
        self.kill()
        self.start()
        self.wait_until_ready()


@dataclass
class Servers:
    """One server, or several that form a cluster of their own.

    Args:
        folder: for their configurations, logs, and what they keep.
        more: lines for the configuration of each.
    """

    count: int
    folder: Path
    more: list[str] = field(default_factory=list)
    jetstream: bool = True
    all: list[Server] = field(default_factory=list)

    def start(self) -> Servers:
        ports, routes = ([free_port() for _ in range(self.count)] for _ in range(2))
        for index in range(self.count):
            folder = self.folder / f"server{index}"
            folder.mkdir(parents=True, exist_ok=True)
            lines = [f"server_name: s{index}", *self.more, *self._kept_in(folder), *self._route(index, routes)]
            self.all.append(Server(f"s{index}", folder, lines, ports[index]))
        for server in self.all:
            server.start()
        for server in self.all:
            server.wait_until_ready()
        if self.count > 1 and self.jetstream:
            self._wait_for_a_leader()
        return self

    def _wait_for_a_leader(self) -> None:
        """Wait until the servers have agreed on who leads JetStream."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.all[0].port), 1) as connection:
                connection.sendall(b"CONNECT {}\r\nSUB in 1\r\nPUB $JS.API.INFO in 0\r\n\r\n")
                said = b""
                while b"io.nats.jetstream" not in said:
                    said += connection.recv(4096)
                if b'"error"' not in said:
                    return
        raise TimeoutError("the servers have no leader")

    def _kept_in(self, folder: Path) -> list[str]:
        store = json.dumps(str(folder / "jetstream"))
        return [f"jetstream {{ store_dir: {store}, max_mem: 64M, max_file: 1G }}"] if self.jetstream else []

    def _route(self, index: int, routes: list[int]) -> list[str]:
        if self.count == 1:
            return []
        urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
        return [f'cluster {{ name: tests, listen: "127.0.0.1:{routes[index]}", routes: [{urls}] }}']

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.all]

    def __getitem__(self, index: int) -> Server:
        return self.all[index]

    def close(self) -> None:
        for server in self.all:
            server.kill()
