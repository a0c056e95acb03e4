"""`modvisor run` as the first process of a container, in a pid namespace of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from .conftest import COMMAND, DEADLINE, NETWORK, write_files

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has pid namespaces")

AS_USER = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]


class Container:
    """A pid namespace whose first process is `modvisor run`."""

    def __init__(self, folder: Path) -> None:
        words = ["unshare", *AS_USER, "--pid", "--fork", "--kill-child", "--mount-proc", *COMMAND, "run"]
        self._outer = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._outer.stdout is not None
        self.said = []
        for line in self._outer.stdout:
            self.said.append(line)
            if line.startswith("ready in "):
                break
        (self.first,) = psutil.Process(self._outer.pid).children()

    def run(self, script: str) -> None:
        """Run a shell script in the namespace, as `docker exec` would."""
        enter = ["nsenter", "--target", str(self.first.pid), "--pid", *(["--user"] if AS_USER else [])]
        subprocess.run([*enter, "sh", "-c", script], check=True, timeout=DEADLINE)

    def end(self) -> tuple[int, str, str]:
        rest, errors = self._outer.communicate(timeout=DEADLINE)
        return self._outer.returncode, rest, errors

    def close(self) -> None:
        self._outer.kill()
        self._outer.communicate()


@pytest.fixture
def container(tmp_path: Path, write_mod: Callable[..., str]) -> Iterator[Container]:
    write_files(tmp_path, write_mod, NETWORK)
    made = Container(tmp_path)
    yield made
    made.close()


def test_the_first_process_collects_orphans_passes_signals_on_and_ends_as_the_network_does(
    container: Container, tmp_path: Path
) -> None:
    assert any("loaded   echo" in line for line in container.said), container.said
    (network,) = container.first.children()
    container.run("sleep 0 & : > orphaned")
    wait_until(lambda: container.first.children() == [network])

    container.first.send_signal(signal.SIGTERM)
    code, rest, errors = container.end()
    assert rest.splitlines() == ["SIGTERM: stopping; once more to kill", "stopped"], "signalled once"
    assert (code, errors) == (0, "")


def test_a_network_that_is_killed_ends_the_first_process_with_its_signal(container: Container) -> None:
    (network,) = container.first.children()
    network.kill()
    assert container.end()[0] == 128 + signal.SIGKILL


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
