"""The unit under a real systemd: a Debian is booted with it, and what operators do to it is done."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from .debian import ROOT, copy_of, debian, deployed, run, wheels

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), deployed]

DEADLINE = 60.0
FILE = "/etc/modvisor/network.yaml"
# Of a container's filter: newer kernels know them, and Debian 12's nspawn does not.
LANDLOCK = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"
NETWORK = """
network: {name: booted, port: 8700, storage: /var/lib/modvisor}
mods:
  - path: modvisor.mods.workspace.wiki
"""


class Machine:
    """A booted Debian. Commands run in it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        words = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe", "-D", root]
        self._process = subprocess.Popen(
            [*map(str, words), f"--system-call-filter={LANDLOCK}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._leader = ""
        until(self._is_booted)

    def _is_booted(self) -> bool:
        assert self._process.poll() is None, "systemd-nspawn has ended"
        for child in psutil.Process(self._process.pid).children():
            if child.name() == "systemd":
                self._leader = str(child.pid)
                return self.tried("systemctl", "is-active", "multi-user.target").returncode == 0
        return False

    def tried(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", "--target", self._leader, "--all", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)

    def run(self, *words: str) -> str:
        done = self.tried(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def modvisor(self, *words: str) -> Any:
        return json.loads(self.run("/opt/modvisor/bin/modvisor", "--json", "--file", FILE, *words))

    def show(self, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, "modvisor").strip()

    def log(self) -> str:
        return self.tried("journalctl", "--unit", "modvisor", "--no-pager", "--output", "cat").stdout

    def write(self, path: str, text: str) -> None:
        file = self._root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def close(self) -> None:
        if self._leader:
            with suppress(subprocess.TimeoutExpired):
                self.tried("systemctl", "poweroff")
                self._process.wait(DEADLINE)
        self._process.kill()
        self._process.wait()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    root = copy_of(debian(), "booted")
    run("cp", "-r", wheels(), root / "wheels")
    run("chroot", root, "python3", "-m", "venv", "/opt/modvisor")
    run("chroot", root, "/opt/modvisor/bin/pip", "install", "-q", "--no-index", "--find-links", "/wheels", "modvisor")
    systemd = ROOT / "deploy" / "systemd"
    run("install", "-D", systemd / "modvisor.sysusers", root / "usr/lib/sysusers.d/modvisor.conf")
    run("install", "-D", systemd / "modvisor.service", root / "etc/systemd/system/modvisor.service")
    (root / "etc/modvisor").mkdir()
    (root / FILE.lstrip("/")).write_text(NETWORK)
    # Three seconds instead of thirty, so that the test need not wait.
    faster = root / "etc/systemd/system/modvisor.service.d/faster.conf"
    faster.parent.mkdir()
    faster.write_text("[Service]\nWatchdogSec=3\n")
    run("systemctl", f"--root={root}", "enable", "modvisor.service")
    made = Machine(root)
    yield made
    made.close()


@pytest.fixture
def running(machine: Machine) -> Machine:
    until(lambda: machine.show("ActiveState") == "active")
    return machine


def test_it_is_started_when_the_mods_are_ready(running: Machine) -> None:
    assert running.show("StatusText") == "1 of 1 mods ready"
    assert [(mod["mod_id"], mod["state"]) for mod in running.modvisor("ps")["mods"]] == [("wiki", "ready")]


def test_every_part_of_a_cell_holds(running: Machine) -> None:
    shown = running.run("/opt/modvisor/bin/modvisor", "--file", FILE, "ps", "--wide")
    assert "user namespace" in shown
    assert "mount namespace" in shown
    assert "Landlock" in shown
    assert "NOT ENFORCED" not in shown, shown
    assert "WARNING" not in running.log(), running.log()


def test_each_mod_has_a_cgroup_below_the_unit(running: Machine) -> None:
    status = running.run("systemctl", "status", "--no-pager", "modvisor")
    assert re.search(r"modvisor-booted-\d+\n.*wiki\.\d+\n", status), status


def test_a_reload_waits_for_the_change_and_a_broken_file_fails_it(running: Machine) -> None:
    pid = running.show("MainPID")
    running.write(FILE, NETWORK + "  - path: modvisor.mods.workspace.messaging\n")
    running.run("systemctl", "reload", "modvisor")
    assert {mod["mod_id"] for mod in running.modvisor("ps")["mods"]} == {"wiki", "messaging"}

    running.write(FILE, "network: [")
    assert running.tried("systemctl", "reload", "modvisor").returncode != 0
    running.write(FILE, NETWORK)
    until(lambda: running.show("ActiveState") == "active")
    running.run("systemctl", "reload", "modvisor")
    assert {mod["mod_id"] for mod in running.modvisor("ps")["mods"]} == {"wiki"}
    assert running.show("MainPID") == pid


def test_a_signal_reloads_it_as_well(running: Machine) -> None:
    running.write(FILE, NETWORK + "  - path: modvisor.mods.workspace.project\n")
    running.run("systemctl", "kill", "--signal=HUP", "--kill-whom=main", "modvisor")
    until(lambda: running.show("StatusText") == "2 of 2 mods ready")
    running.write(FILE, NETWORK)
    running.run("systemctl", "reload", "modvisor")


def test_a_mod_that_is_killed_does_not_stop_the_unit(running: Machine) -> None:
    pid = running.show("MainPID")
    (mod,) = running.modvisor("ps")["mods"]
    running.run("kill", "-KILL", str(mod["pid"]))
    until(lambda: running.modvisor("ps")["mods"][0]["pid"] not in (None, mod["pid"]))
    assert (running.show("MainPID"), running.show("NRestarts")) == (pid, "0")


def test_a_network_that_hangs_is_ended_says_where_it_hung_and_starts_again(running: Machine) -> None:
    pid = running.show("MainPID")
    running.run("kill", "-STOP", pid)
    until(lambda: running.show("NRestarts") == "1" and running.show("ActiveState") == "active")
    assert running.show("MainPID") != pid
    assert "Watchdog timeout" in running.log()
    assert "Fatal Python error: Aborted" in running.log()


def test_a_network_that_is_killed_starts_again_and_nothing_of_it_is_left(running: Machine) -> None:
    before = int(running.show("NRestarts"))
    running.run("kill", "-KILL", running.show("MainPID"))
    until(lambda: running.show("NRestarts") == str(before + 1) and running.show("ActiveState") == "active")
    status = running.run("systemctl", "status", "--no-pager", "modvisor")
    assert len(re.findall(r"modvisor-booted-\d+\n", status)) == 1, status
    assert len(re.findall(r"python -P -m modvisor.worker", status)) == 1, status


def test_a_file_with_mistakes_is_not_tried_again_and_again(running: Machine) -> None:
    running.write(FILE, "network: [")
    running.tried("systemctl", "restart", "modvisor")
    until(lambda: running.show("ActiveState") == "failed")
    assert running.show("ExecMainStatus") == "4"
    restarts = running.show("NRestarts")
    running.write(FILE, NETWORK)
    running.run("systemctl", "reset-failed", "modvisor")
    running.run("systemctl", "start", "modvisor")
    assert running.show("NRestarts") == restarts


def test_a_stop_ends_it_in_order(running: Machine) -> None:
    running.run("systemctl", "stop", "modvisor")
    assert (running.show("ActiveState"), running.show("Result")) == ("inactive", "success")
    assert running.log().splitlines()[-4:].count("stopped") == 1, running.log()
