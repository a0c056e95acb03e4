"""What the tests of the command share: the command in this process, and networks for it.

`served` and `serve` give a network in a thread of this process, `asked` one that all tests of a file share and only ask.
`running` and `start` give ``modvisor run`` in a process of its own, for tests about signals, exit codes and what it prints.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from anyio.from_thread import start_blocking_portal
from typer.main import get_command
from typer.testing import CliRunner, Result

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.cli.app import app, main
from tests import warm
from tests.conftest import ECHO

COMMAND = [sys.executable, "-m", "modvisor.supervisor.cli"]
DEADLINE = 20.0  # seconds for what takes well below one; a loaded machine is slow

NETWORK = """
network: {name: demo, port: 0}
mods:
  - path: ./echo
"""


@pytest.fixture(scope="session", autouse=True)
def program_built_once() -> Iterator[None]:
    """Have typer's runner build the program once, not anew for each command (60 ms)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", cache(get_command))
        yield


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the shell that runs the tests, and nothing but tmp_path to find a network file in."""
    for name in ("MODVISOR_FILE", "MODVISOR_URL", "MODVISOR_TOKEN", "MODVISOR_NODE", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


class Command:
    """The command in this process."""

    def __call__(self, *args: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(app, list(args), input=stdin, prog_name="modvisor")

    def ok(self, *args: str, stdin: str | bytes | None = None) -> str:
        """Its stdout; it must succeed."""
        result = self(*args, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: str, stdin: str | bytes | None = None, code: int = 0) -> Any:
        """The one document it prints with --json."""
        result = self(*args, "--json", stdin=stdin)
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)


@pytest.fixture
def cli() -> Command:
    return Command()


class Running:
    """``modvisor run`` in a process of its own, ready; what it says on stdout is read line by line."""

    def __init__(self, folder: Path, *args: str) -> None:
        self.folder = folder
        with open(folder / "stderr.txt", "ab") as errors:
            self.process = warm.Popen(
                [*COMMAND, "--json", "run", *args], cwd=folder, stdout=subprocess.PIPE, stderr=errors
            )
        self.said: list[dict[str, Any]] = []
        self.workers: set[int] = set()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr.txt").read_text()

    def until(self, happened: str) -> dict[str, Any]:
        """The next line that says so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(json.loads(line))
            if self.said[-1].get("happened") == happened:
                self.note_workers()
                return self.said[-1]
        raise AssertionError(f"ended before it was {happened}: {self.said}\n{self.stderr}")

    def note_workers(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self.workers |= {child.pid for child in psutil.Process(self.pid).children(recursive=True)}

    def end(self, signum: int = signal.SIGTERM) -> int:
        """Signal it and return its exit code."""
        self.note_workers()
        self.process.send_signal(signum)
        return self.process.wait(DEADLINE)

    def left(self) -> set[int]:
        """Workers that are still there."""
        return {pid for pid in self.workers if psutil.pid_exists(pid) and _is_worker(pid)}

    def wait_for_wardens(self) -> None:
        """Wait until wardens have ended the workers, as they do when the supervisor was killed: a moment after it."""
        for pid in self.left():
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).wait(DEADLINE)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.note_workers()
            self.process.kill()
        self.process.wait(DEADLINE)
        for pid in self.left():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()


def _is_worker(pid: int) -> bool:
    """Numbers of processes are given away again."""
    try:
        return "modvisor.worker" in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


class Served:
    """A network in a thread of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = AgentNetwork.load(folder / "network.yaml")
        with ExitStack() as ends:
            portal = ends.enter_context(start_blocking_portal("asyncio"))
            self.call = portal.call
            ends.callback(portal.call, self.network.shutdown)
            portal.call(lambda: self.network.initialize(admin=True))
            self._ends = ends.pop_all()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.network.port}"

    @property
    def socket(self) -> str:
        return str(self.network.state_dir.admin_socket)

    def stop(self) -> None:
        self._ends.close()


@pytest.fixture
def serve(tmp_path: Path, write_mod: Callable[..., str]) -> Iterator[Callable[..., Served]]:
    """Serve the network file in tmp_path, which is written first unless it is None."""
    with ExitStack() as ends:

        def serve(network: str | None = NETWORK) -> Served:
            write_files(tmp_path, write_mod, network)
            served = Served(tmp_path)
            ends.callback(served.stop)
            return served

        yield serve


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    """A network with an echo mod."""
    return serve()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "mods" / "echo").mkdir(parents=True)
    (folder / "mods" / "echo" / "mod.py").write_text(textwrap.dedent(ECHO))
    (folder / "network.yaml").write_text(NETWORK)
    served = Served(folder)
    yield served
    served.stop()


@pytest.fixture
def asked(shared: Served, monkeypatch: pytest.MonkeyPatch) -> Served:
    """A network with an echo mod, which other tests have asked before: the command finds its file where we are."""
    monkeypatch.chdir(shared.folder)
    return shared


def write_files(folder: Path, write_mod: Callable[..., str], network: str | None) -> None:
    if not (folder / "mods" / "echo").exists():
        write_mod("echo")
    if network is not None:
        (folder / "network.yaml").write_text(network)


@pytest.fixture
def start(tmp_path: Path, write_mod: Callable[..., str]) -> Iterator[Callable[..., Running]]:
    """Start ``modvisor run ARGS…`` in tmp_path; with ``ready`` (the default), wait until it is."""
    started: list[Running] = []

    def start(*args: str, network: str | None = NETWORK, ready: bool = True) -> Running:
        write_files(tmp_path, write_mod, network)
        running = Running(tmp_path, *args)
        started.append(running)
        if ready:
            running.until("ready")
        return running

    yield start
    for running in started:
        running.kill()


@pytest.fixture
def running(start: Callable[..., Running]) -> Running:
    """A network with an echo mod."""
    return start()


class Shell:
    """What a shell would offer at the end of a line: asked in this process, or in one of its own as shells do it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, line: str) -> list[str]:
        with self._monkeypatch.context() as patch:
            for name, value in self._variables(line).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit):
                main()
        printed = self._capsys.readouterr()
        assert printed.err == ""
        return printed.out.split()

    def in_a_process(self, line: str) -> list[str]:
        code = "from modvisor.supervisor.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **self._variables(line)}, capture_output=True, text=True, timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split()

    @staticmethod
    def _variables(line: str) -> dict[str, str]:
        last = len(line.split(" ")) - 1
        return {"_MODVISOR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(last)}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(monkeypatch, capsys)
