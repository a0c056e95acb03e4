"""`modvisor run` under a service manager: what it tells it, over a real socket, as sd_notify(3) says."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from modvisor.supervisor.cli.running.service import ServiceManager

from .conftest import DEADLINE, NETWORK, Running

Start = Callable[..., Running]


class Manager:
    """The other end: what a service manager is told, in order."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.settimeout(DEADLINE)
        self.told: list[str] = []

    def until(self, wanted: str) -> list[str]:
        """The lines up to the first one that begins so."""
        begin = len(self.told)
        while True:
            lines = self._sock.recv(4096).decode().splitlines()
            self.told += lines
            if any(line.startswith(wanted) for line in lines):
                return self.told[begin:]

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "300000")
    yield made
    made.close()


def test_the_service_manager_is_told_of_the_start_of_life_of_a_changed_file_and_of_the_end(
    manager: Manager, start: Start
) -> None:
    running = start(network=NETWORK, ready=False)
    assert manager.until("READY=1") == ["READY=1"]
    assert "WATCHDOG=1" in manager.until("STATUS=")
    assert manager.told[-1] == "STATUS=1 of 1 mods ready"
    manager.until("WATCHDOG=1")  # again, within the time
    running.until("ready")

    running.process.send_signal(signal.SIGHUP)
    reloading = manager.until("RELOADING=1")
    assert int(next(line for line in reloading if line.startswith("MONOTONIC_USEC="))[15:]) > 0
    manager.until("READY=1")
    assert running.end() == 0
    manager.until("STOPPING=1")


def test_a_broken_file_ends_the_reloading_too(manager: Manager, start: Start, tmp_path: Path) -> None:
    running = start(network=NETWORK)
    (tmp_path / "network.yaml").write_text("network: [")
    manager.until("READY=1")
    running.process.send_signal(signal.SIGHUP)
    manager.until("RELOADING=1")
    manager.until("READY=1")
    assert running.end() == 0


def test_a_mod_that_is_not_ready_is_named(manager: Manager, start: Start, write_mod: Callable[..., str]) -> None:
    write_mod("broken", "raise RuntimeError('no luck')")
    start(network=NETWORK + "  - path: ./broken\n")
    manager.until("STATUS=")
    assert manager.told[-1] == "STATUS=1 of 2 mods ready; broken is failed"


def test_no_other_process_may_speak_for_the_network(manager: Manager, start: Start) -> None:
    running = start(network=NETWORK)
    children = psutil.Process(running.pid).children(recursive=True)
    environments = [Path(f"/proc/{each.pid}/environ").read_bytes() for each in children]
    assert environments
    assert not [each for each in environments if b"NOTIFY_SOCKET" in each or b"WATCHDOG" in each]


def test_a_network_that_hangs_gives_no_sign_of_life_and_says_where_it_hung(manager: Manager, start: Start) -> None:
    running = start(network=NETWORK)
    manager.until("WATCHDOG=1")
    running.process.send_signal(signal.SIGABRT)  # what systemd does when the signs of life stay away
    assert running.process.wait(DEADLINE) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in running.stderr


@pytest.mark.parametrize("named", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_socket_that_it_knows_it_says_nothing(named: dict[str, str]) -> None:
    manager = ServiceManager({**named})
    manager.ready()
    manager.stopping()


def test_a_socket_that_is_gone_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    manager.ready()
    manager.stopping()
    assert [record.message.split(":")[0] for record in caplog.records] == ["the service manager cannot be told READY=1"]


def test_a_socket_without_a_file_is_found() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0modvisor-test-{os.getpid()}")
        ServiceManager({"NOTIFY_SOCKET": f"@modvisor-test-{os.getpid()}"}).ready()
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    ("micros", "pid", "seconds"),
    [
        ("3000000", "", 3.0),
        ("3000000", "own", 3.0),
        ("3000000", "1", None),
        ("0", "", None),
        ("x", "", None),
    ],
)
def test_the_watchdog_of_another_process_is_not_ours(micros: str, pid: str, seconds: float | None) -> None:
    environment = {"WATCHDOG_USEC": micros, "WATCHDOG_PID": pid.replace("own", str(os.getpid()))}
    assert ServiceManager(environment).watchdog == seconds
    assert not environment
