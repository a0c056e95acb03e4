"""`modvisor cluster up` and `down`: the NATS server to try a cluster out with, a real one."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from modvisor.supervisor.cluster.link import embedded
from modvisor.supervisor.config import load_config
from tests import warm

from .conftest import COMMAND, DEADLINE, Command

FILE = "network: {name: demo, port: 0}\ncluster: {node: a}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "network.yaml").write_text(FILE)
    return tmp_path / "network.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The folder of the server, which is ended whatever happens."""
    folder = tmp_path / ".modvisor" / "cluster"
    yield folder
    if embedded.is_running(folder) and (server := embedded.kept(folder)) is not None:
        os.kill(server.pid, signal.SIGKILL)
        os.waitpid(server.pid, 0)


def ended(pid: int) -> None:
    os.waitpid(pid, 0)  # the server is a child of this process, in which the command ran


def test_a_server_starts_that_a_node_of_the_file_finds(cli: Command, file: Path, folder: Path) -> None:
    document = cli.json("cluster", "up")
    assert document["success"]
    found = embedded.with_embedded(load_config(file))
    assert found.servers == (document["url"],)
    assert found.secret is not None
    assert found.password is not None
    host, port = document["url"].removeprefix("nats://").split(":")
    with socket.create_connection((host, int(port)), DEADLINE) as connection:
        greeting = json.loads(connection.makefile().readline().removeprefix("INFO "))
    assert greeting["jetstream"]
    assert greeting["auth_required"]


def test_what_is_kept_of_it_is_for_this_user_alone(cli: Command, file: Path, folder: Path) -> None:
    cli.ok("cluster", "up")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("server.json", "server.conf", "server.log"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600, name


def test_it_keeps_its_port_and_its_secrets(cli: Command, file: Path, folder: Path) -> None:
    first = cli.json("cluster", "up")
    before = embedded.kept(folder)
    assert "has stopped" in cli.ok("cluster", "down")
    ended(first["pid"])
    again = cli.json("cluster", "up")
    after = embedded.kept(folder)
    assert before is not None
    assert after is not None
    assert again["url"] == first["url"]
    assert (after.password, after.secret) == (before.password, before.secret)


def test_a_second_start_and_a_second_end_are_refused(cli: Command, file: Path, folder: Path) -> None:
    pid = cli.json("cluster", "up")["pid"]
    again = cli("cluster", "up")
    assert again.exit_code == 8
    assert f"runs already (pid {pid}, nats://127.0.0.1:" in again.output
    cli.ok("cluster", "down")
    ended(pid)
    end = cli("cluster", "down")
    assert end.exit_code == 3
    assert "no NATS server runs that 'modvisor cluster up' started" in end.output


def test_a_taken_port_is_named(cli: Command, file: Path, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli("cluster", "up", "--port", str(port))
    assert result.exit_code == 8
    assert f"cannot listen on 127.0.0.1:{port}" in result.output
    assert "choose another one with --port" in result.output


def test_a_server_that_ends_at_once_is_told_with_its_last_words(
    cli: Command, file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "nats-server"
    broken.write_text("#!/bin/sh\necho no room for it\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(embedded, "find_program", lambda: str(broken))
    result = cli("cluster", "up")
    assert result.exit_code == 8
    assert "nats-server ended at once: no room for it" in result.output


def test_a_file_without_a_cluster_is_told_the_line_that_it_needs(cli: Command, file: Path, folder: Path) -> None:
    file.write_text("network: {name: demo}\n")
    text = cli.ok("cluster", "up")
    assert "network.yaml has no cluster yet; add this line:\n  cluster: {}\n" in text
    assert "modvisor run --node a --port 8701" in text


def test_a_node_without_a_server_is_told_how_to_get_one(file: Path, folder: Path, cli: Command) -> None:
    with pytest.raises(
        embedded.EmbeddedError, match="no server was started for it; start it with 'modvisor cluster up'"
    ):
        embedded.with_embedded(load_config(file))
    ended_pid = cli.json("cluster", "up")["pid"]
    cli.ok("cluster", "down")
    ended(ended_pid)
    with pytest.raises(embedded.EmbeddedError, match="started for this file does not run"):
        embedded.with_embedded(load_config(file))


def test_a_file_that_names_servers_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(
        "network: {name: demo}\ncluster: {servers: ['nats://10.0.0.5'], secret: ea1c5a9145c8606059e0a4c4}\n"
    )
    config = load_config(tmp_path / "network.yaml")
    assert embedded.with_embedded(config) is config.cluster


def test_in_the_foreground_it_is_the_server_itself(file: Path, folder: Path, tmp_path: Path) -> None:
    with open(tmp_path / "out.txt", "wb") as out:
        process = warm.Popen([*COMMAND, "cluster", "up", "--foreground"], cwd=tmp_path, stdout=out, stderr=out)
    try:
        while (server := embedded.kept(folder)) is None or not embedded._listens(server):
            assert process.poll() is None, (tmp_path / "out.txt").read_text()
        assert server.pid == process.pid
        assert embedded.is_running(folder)
    finally:
        process.terminate()
        process.wait(DEADLINE)
    assert not embedded.is_running(folder)
