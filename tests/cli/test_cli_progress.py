"""A bar on the terminal while the network does what takes long; nothing where there is no terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import warm
from tests.supervisor.test_progress import SLOW_START

from .conftest import COMMAND, DEADLINE, Command, Served

NETWORK = """
network: {{name: demo, port: 0}}
mods:
  - {{path: ./slow, workers: 2, config: {{go: {go}}}}}
"""


@pytest.mark.slow
def test_a_reload_of_many_workers_shows_which_one_it_is_at(
    serve: Callable[..., Served], write_mod: Callable[..., str], tmp_path: Path
) -> None:
    go = tmp_path / "go"
    go.touch()
    write_mod("slow", SLOW_START)
    serve(NETWORK.format(go=go))
    go.unlink()
    terminal, its_end = pty.openpty()
    reload = warm.Popen(
        [*COMMAND, "reload", "slow"], stdout=subprocess.PIPE, stderr=its_end, cwd=tmp_path,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(its_end)
    drawn = b""
    try:
        while b"worker 1 of 2: starting the new process" not in drawn:
            drawn += os.read(terminal, 4096)
        go.touch()
        said, _ = reload.communicate(timeout=DEADLINE)
        assert ("mod slow reloaded" in said, reload.returncode) == (True, 0)
    finally:
        reload.kill()
        reload.communicate()
        os.close(terminal)
    assert re.search(rb"reload slow +worker 1 of 2", drawn)


def test_without_a_terminal_there_is_no_bar(asked: Served, cli: Command) -> None:
    result = cli("reload", "echo")
    assert (result.exit_code, result.stderr) == (0, "")
