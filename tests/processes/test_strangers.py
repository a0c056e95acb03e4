"""A network in a process of its own, with few descriptors, and strangers who take all that they get."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import ECHO, until

pytestmark = pytest.mark.anyio

FILES = 160  # descriptors of the network's process


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running network with a mod `./echo` that is not loaded yet."""
    (tmp_path / "mods" / "echo").mkdir(parents=True)
    (tmp_path / "mods" / "echo" / "mod.py").write_text(textwrap.dedent(ECHO))
    (tmp_path / "network.yaml").write_text("network: {name: crowded, port: 0}\n")
    command = [sys.executable, "-m", "modvisor", "run", str(tmp_path / "network.yaml")]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
    ) as process:
        yield process
        process.send_signal(signal.SIGTERM)


@pytest.mark.slow
async def test_strangers_cannot_take_the_descriptors_of_the_operator_and_the_mods(
    crowded: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    admin_socket = tmp_path / ".modvisor" / "run" / "admin.sock"
    await until(admin_socket.exists, timeout=20)
    transport = httpx.AsyncHTTPTransport(uds=str(admin_socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin", timeout=20) as admin:
        port = (await admin.get("/admin/v1/status")).json()["port"]
        with ExitStack() as stack:
            for _ in range(3 * FILES):
                stranger = stack.enter_context(socket.socket())
                stranger.setblocking(False)
                with suppress(BlockingIOError):
                    stranger.connect(("127.0.0.1", port))
            process = psutil.Process(crowded.pid)
            await until(lambda: process.num_fds() > FILES // 2)
            for _ in range(20):  # each over a connection of its own
                async with httpx.AsyncClient(
                    transport=httpx.AsyncHTTPTransport(uds=str(admin_socket)), base_url="http://admin", timeout=20
                ) as another:
                    assert (await another.get("/admin/v1/status")).status_code == 200
            loaded = await admin.post("/admin/v1/mods", json={"path": "./echo"})
            assert loaded.status_code == 200, loaded.text
            assert process.num_fds() <= FILES
            # Whoever asks something gets in as well.
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as asking:
                assert (await asking.get("/api/health")).json()["data"]["mods"]
