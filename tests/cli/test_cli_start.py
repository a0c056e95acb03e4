"""`modvisor start`, `status` and `stop`: a network in the background, ready when the command returns."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from .conftest import NETWORK, Command, Served, write_files

BROKEN = "raise RuntimeError('no luck')"


@pytest.fixture
def background(cli: Command, tmp_path: Path, write_mod: Callable[..., str]) -> Iterator[Callable[..., Any]]:
    """Start a network in tmp_path, and end it after the test."""
    pids: list[int] = []

    def start(*args: str, network: str = NETWORK) -> dict[str, Any]:
        write_files(tmp_path, write_mod, network)
        found = cli.json("start", *args)
        pids.append(found["pid"])
        return found

    yield start
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)  # the command is this process here, so it is the parent


def test_it_is_ready_when_the_command_returns_and_outlives_it(background: Any, cli: Command, tmp_path: Path) -> None:
    found = background()
    assert (found["happened"], found["success"], found["name"]) == ("ready", True, "demo")
    assert found["log"] == str(tmp_path / ".modvisor" / "network.log")
    process = psutil.Process(found["pid"])
    assert os.getsid(found["pid"]) == found["pid"], "the terminal does not signal it"
    worker = psutil.Process(found["mods"][0]["pid"])
    assert "MODVISOR_READY_PIPE" not in worker.environ()
    again = cli("start")
    assert (again.exit_code, "runs already" in again.stderr) == (7, True)
    assert cli.json("status")["pid"] == found["pid"]
    assert "ready in" in Path(found["log"]).read_text()
    assert cli.json("stop", "--timeout", "1m")["data"] == {"stopped": True, "pid": found["pid"]}
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert cli("status").exit_code == 3


@pytest.mark.slow
def test_its_output_goes_to_the_log_that_is_named(background: Any, cli: Command, tmp_path: Path) -> None:
    background("--log", "my.log", "--port", "0")
    cli.ok("stop")
    assert (tmp_path / "my.log").read_text().endswith("stopped\n")


@pytest.mark.slow
def test_a_start_that_fails_ends_as_run_does(cli: Command, tmp_path: Path, write_mod: Callable[..., str]) -> None:
    write_mod("broken", BROKEN)
    (tmp_path / "network.yaml").write_text("network: {name: x}\nmods: [{path: ./broken, required: true}]\n")
    result = cli("start")
    assert result.exit_code == 8
    assert result.stderr.startswith("error: network.yaml did not start: a required mod failed")
    (tmp_path / "network.yaml").write_text("network: {name: x, prot: 1}\nmods: 7\n")
    document = cli.json("start", code=4)
    assert document["data"]["error"] == "bad_config"
    assert document["message"].startswith("network.yaml has 2 mistakes:")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (tmp_path / "network.yaml").write_text(f"network: {{name: x, port: {taken.getsockname()[1]}}}\n")
        assert "cannot listen on 127.0.0.1" in cli("start").stderr


@pytest.mark.slow
def test_a_start_that_takes_longer_than_one_waits_goes_on(
    background: Any, cli: Command, tmp_path: Path, write_mod: Callable[..., str]
) -> None:
    gate = tmp_path / "mods" / "gate"
    write_mod(
        "slow",
        f"""
        import os
        import time
        from modvisor.mods import BaseMod

        class Slow(BaseMod):
            def initialize(self):
                while not os.path.exists({str(gate)!r}):
                    time.sleep(0.01)
    """,
    )
    write_files(tmp_path, write_mod, NETWORK + "  - path: ./slow\n")
    result = cli("start", "--timeout", "100ms")
    assert result.exit_code == 9
    assert "is still starting; its log:" in result.stderr
    gate.touch()
    while cli("status").exit_code:
        pass
    pid = cli.json("status")["pid"]
    cli.ok("stop")
    os.waitpid(pid, 0)


def test_a_log_that_cannot_be_written_is_named(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text("network: {name: x}\n")
    result = cli("start", "--log", "logs/x.log")
    assert result.exit_code == 8
    assert f"the folder {tmp_path / 'logs'} does not exist" in result.stderr
    (tmp_path / "state").touch()
    (tmp_path / "network.yaml").write_text("network: {name: x, storage: state/deep}\n")
    assert f"Not a directory: {tmp_path / 'state'} is a file" in cli("start").stderr


def test_status_tells_what_is_wrong_and_fails(
    serve: Callable[..., Served], cli: Command, write_mod: Callable[..., str]
) -> None:
    write_mod("broken", BROKEN)
    serve(network=NETWORK + "  - path: ./broken\n")
    result = cli("status")
    assert result.exit_code == 1
    assert "mods     1 ready, 1 failed" in result.stdout
    assert "broken is failed: " in result.stdout
    found = cli.json("status", code=1)
    assert (found["success"], found["running"]) == (False, True)
    (trouble,) = found["troubles"]
    assert (trouble["mod_id"], trouble["state"]) == ("broken", "failed")
    assert "no luck" in trouble["reason"]
    cli.ok("unload", "broken")
    assert cli.json("status")["troubles"] == []


@pytest.mark.parametrize("line", ["--version", "-V"])
def test_the_version_is_an_option_too(cli: Command, line: str) -> None:
    assert cli.ok(line) == cli.ok("version")
