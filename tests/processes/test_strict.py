"""Mods in strict cells: what they still can do, in every way that a worker is started."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.cell import STRICT
from modvisor.supervisor import AgentNetwork, Event, EventResponse
from tests.processes.test_other_languages import RAW

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.forked,
    pytest.mark.skipif(sys.platform != "linux", reason="cells are Linux's"),
]

MOD = """
    import asyncio, multiprocessing, os, pathlib, socket, subprocess, sys, tempfile, urllib.request
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    def attempt(step):
        try:
            return step()
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def twice(number):
        return 2 * number

    class Probe(BaseMod):
        @mod_event_handler("probe.run")
        async def run(self, event):
            return EventResponse(True, data=await asyncio.to_thread(self.answers, event.payload))

        def answers(self, asked):
            own = pathlib.Path(self.context.storage_path)
            found = {
                "user": os.getuid(),
                "storage": attempt(lambda: (own / "file").write_text("text")),
                "temporary": attempt(lambda: tempfile.TemporaryFile().write(b"text")),
                "fork": attempt(lambda: multiprocessing.get_context("fork").Pool(1).map(twice, [4])),
                "program": attempt(lambda: subprocess.run(["/bin/true"]).returncode),
                "secret": attempt(lambda: pathlib.Path(asked["secret"]).read_text()),
                "libraries": attempt(lambda: (__import__("ssl").create_default_context() and __import__("sqlite3")).__name__),
            }
            if "url" in asked:
                found["listed"] = attempt(lambda: connect(asked["url"]))
                found["other"] = attempt(lambda: connect("other.example:443"))
                found["straight"] = attempt(lambda: socket.create_connection(asked["address"], 1))
            return found

    def connect(where):
        host, port = os.environ["HTTPS_PROXY"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as out:
            out.sendall(f"CONNECT {where} HTTP/1.1\\r\\n\\r\\n".encode())
            said = out.recv(1000).decode()
            if " 200 " not in said:
                return said.split("\\r\\n")[0]
            out.sendall(b"hello")
            return out.recv(100).decode()
"""


async def probe(network: AgentNetwork, **asked: Any) -> dict[str, Any]:
    response = await network.process_event(Event("probe.run", "agent:alice", destination_id="mod:probe", payload=asked))
    assert isinstance(response, EventResponse)
    assert response.success, response
    return dict(response.data or {})


@pytest.fixture
def secret(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text("secret")
    return str(file)


@asynccontextmanager
async def greeting() -> AsyncIterator[int]:
    """A server on this machine that answers every byte. Yields its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(b"re: " + data)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


WORKS = {
    "storage": 4, "temporary": 4, "fork": [8], "program": "PermissionError: [Errno 1] Operation not permitted: '/bin/true'",
    "libraries": "sqlite3",
}  # fmt: skip


@pytest.mark.parametrize(
    "start", ["fork", pytest.param("exec", marks=pytest.mark.slow), pytest.param("python", marks=pytest.mark.slow)]
)
async def test_a_strict_mod_works_and_sees_nothing_else(
    start: str, make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str], secret: str
) -> None:
    entry: dict[str, Any] = {"path": write_mod("probe", MOD), "required": True, "sandbox": STRICT}
    entry |= {"exec": {"launch": "exec"}, "python": {"python": sys.executable}}.get(start, {})
    network = make_network(mods=[entry])
    await network.initialize()
    found = await probe(network, secret=secret)
    assert {name: found[name] for name in WORKS} == WORKS
    assert found["secret"].startswith("FileNotFoundError")
    assert (found["user"] >= 1_500_000_000) == (os.geteuid() == 0)


async def test_a_strict_mod_reaches_listed_hosts_alone(
    make_network: Callable[..., AgentNetwork],
    write_mod: Callable[..., str],
    secret: str,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.WARNING, "modvisor.relay")
    async with greeting() as port:
        hosts = [f"localhost:{port}", f"127.0.0.0/8:{port}", f"[::1]:{port}"]
        entry = {"path": write_mod("probe", MOD), "sandbox": {"profile": STRICT, "network": hosts}, "required": True}
        network = make_network(mods=[entry])
        await network.initialize()
        found = await probe(network, secret=secret, url=f"localhost:{port}", address=["127.0.0.1", port])
        assert found["listed"] == "re: hello"
        assert found["other"] == "HTTP/1.1 403 Forbidden"
        assert found["straight"].startswith("ConnectionRefusedError")
        assert "mod probe may not connect to other.example:443" in caplog.text
        await network.shutdown()
        lines = (tmp_path / "state" / "audit" / "audit.jsonl").read_text().splitlines()
        (refused,) = (record for record in map(json.loads, lines) if record["what"] == "mod.connect")
        assert (refused["who"], refused["on"], refused["outcome"]) == ("mod:probe", "other.example:443", "refused")


async def test_parts_of_a_strict_cell_can_be_loosened(
    make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str], secret: str
) -> None:
    sandbox = {"profile": STRICT, "exec": True, "read": [secret], "user": "network"}
    network = make_network(mods=[{"path": write_mod("probe", MOD), "required": True, "sandbox": sandbox}])
    await network.initialize()
    found = await probe(network, secret=secret)
    assert (found["program"], found["secret"], found["user"]) == (0, "secret", os.geteuid())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="root")
async def test_a_mods_storage_goes_with_its_user_and_back(
    make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str], secret: str, tmp_path: Path
) -> None:
    path = write_mod("probe", MOD)
    owners = []
    for sandbox in ("default", STRICT, "default"):
        network = make_network(mods=[{"path": path, "required": True, "sandbox": sandbox}])
        await network.initialize()
        assert (await probe(network, secret=secret))["storage"] == 4
        file = tmp_path / "state" / "mods" / "probe" / "file"
        owners.append((file.stat().st_uid, file.parent.stat().st_uid))
        await network.shutdown()
    assert owners == [(0, 0), (1_500_000_000, 1_500_000_000), (0, 0)]


async def test_a_strict_program_of_another_language_starts_and_starts_no_other(
    make_network: Callable[..., AgentNetwork], tmp_path: Path
) -> None:
    (tmp_path / "mods" / "raw").mkdir(parents=True)
    (tmp_path / "worker.py").write_text("#" + RAW.split("# A worker", 1)[1].replace("{{", "{").replace("}}", "}"))
    entry = {"path": "./raw", "command": [sys.executable, "worker.py", "one"], "required": True}
    sandbox = {"profile": STRICT, "read": [sys.prefix, sys.base_prefix]}
    network = make_network(mods=[{**entry, "sandbox": sandbox}])
    await network.initialize()
    response = await network.process_event(Event("raw.echo", "agent:alice", destination_id="mod:raw"))
    assert response.success, response
    assert response.data["args"] == ["one"]
    assert network.get_network_stats()["mods"]["raw"]["sandbox"]["enforced_by"]["exec"].startswith("one exec")


async def test_a_strict_script_is_refused_with_what_to_do(
    make_network: Callable[..., AgentNetwork], tmp_path: Path
) -> None:
    (tmp_path / "mods" / "raw").mkdir(parents=True)
    script = tmp_path / "mods" / "raw" / "worker"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    network = make_network()
    await network.initialize()
    response = await network.load_mod("./raw", command=["mods/raw/worker"], sandbox=STRICT)
    assert not response.success
    assert "is a script, whose interpreter would be started next; set 'exec: true'" in response.message
