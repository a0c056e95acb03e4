"""``modvisor run --watch`` and ``modvisor load --watch``: what is said of saves, and of a library that is not there."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork
from tests import warm
from tests.conftest import ECHO

from .conftest import COMMAND, DEADLINE, NETWORK, Command, Running

Start = Callable[..., Running]
WriteMod = Callable[..., str]

BROKEN = "x = 1\nthis is no python\n"
WITHOUT_WATCHFILES = "import sys; sys.modules['watchfiles'] = None; from modvisor.supervisor.cli import main; main()"


def test_a_save_is_told_as_it_happens(start: Start, cli: Command, write_mod: WriteMod) -> None:
    running = start("--watch")
    assert running.said[-1]["watched"] == ["echo"]
    write_mod("echo", ECHO.replace("1.0", "2.0"))
    said = running.until("saved")
    assert (said["mod_id"], said["files"], said["success"]) == ("echo", ["mods/echo/mod.py"], True)
    assert said["data"]["to"] == "2.0"
    write_mod("echo", BROKEN)
    said = running.until("saved")
    assert (said["success"], said["data"]["where"]) == (False, f"{running.folder}/mods/echo/mod.py:2")
    assert cli.json("ps")["mods"][0]["version"] == "2.0"
    write_mod("echo", ECHO.replace("1.0", "3.0"))
    assert running.until("saved")["data"]["to"] == "3.0"
    assert running.stderr.count("mod echo was not reloaded") == 1
    assert "changes detected" not in running.stderr
    assert running.end() == 0
    assert running.left() == set()


@pytest.mark.slow
def test_for_people_it_prints_a_line_for_each_save(write_mod: WriteMod, tmp_path: Path) -> None:
    write_mod("echo")
    (tmp_path / "network.yaml").write_text(NETWORK)
    command = [*COMMAND, "run", "--watch", "--log-level", "error"]
    with warm.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("  watching"):
                    assert line == "  watching echo\n"
                if line.startswith("ready in "):
                    write_mod("echo", BROKEN)
                    broken = process.stdout.readline()
                    write_mod("echo", ECHO.replace("1.0", "2.0"))
                    mended = process.stdout.readline()
                    break
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert broken.startswith("mods/echo/mod.py saved: mod echo was not reloaded, the old one still serves: ")
    assert f"{tmp_path}/mods/echo/mod.py:2: SyntaxError" in broken
    assert mended.startswith("mods/echo/mod.py saved: mod echo reloaded (")
    assert rest.splitlines() == ["SIGINT: stopping; once more to kill", "stopped"], "each is said once"
    assert errors == ""


def test_a_mod_that_is_loaded_to_be_watched(running: Running, cli: Command, write_mod: WriteMod) -> None:
    write_mod("second")
    cli.ok("load", "./second", "--watch")
    write_mod("echo", ECHO.replace("1.0", "2.0"))
    write_mod("second", ECHO.replace("1.0", "2.0"))
    assert running.until("saved")["mod_id"] == "second"
    assert running.end() == 0
    again = warm.Popen([*COMMAND, "--json", "run"], stdout=subprocess.PIPE)
    try:
        assert again.stdout is not None
        assert '"watched": ["second"]' in again.stdout.readline(), "as it was when the network last ran"
    finally:
        again.send_signal(signal.SIGTERM)
        again.communicate(timeout=DEADLINE)


@pytest.mark.slow
def test_without_the_library_it_says_how_to_install_it(write_mod: WriteMod, tmp_path: Path) -> None:
    write_mod("echo")
    (tmp_path / "network.yaml").write_text(NETWORK)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_WATCHFILES, "run", "--watch"],
        capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    assert done.returncode == 8
    assert "error: --watch: watching files needs the package watchfiles" in done.stderr
    assert "pip install 'modvisor[watch]'" in done.stderr
    assert not (tmp_path / ".modvisor").exists(), "nothing was started"


@pytest.mark.slow
def test_a_file_that_asks_for_it_is_a_warning_and_a_load_that_does_a_mistake(
    cli: Command, write_mod: WriteMod, tmp_path: Path
) -> None:
    write_mod("echo")
    (tmp_path / "network.yaml").write_text(NETWORK.replace("port: 0", "watch: true"))
    command = [sys.executable, "-c", WITHOUT_WATCHFILES, "--json", "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert '"watched": []' in process.stdout.readline()
            refused = cli("load", "./echo", "--id", "other", "--watch")
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert refused.exit_code != 0
    assert "pip install 'modvisor[watch]'" in refused.stderr
    warnings = [line for line in errors.splitlines() if "pip install 'modvisor[watch]'" in line]
    assert len(warnings) == 1
    assert "WARNING modvisor.watch: the files of echo are not watched" in warnings[0]


@pytest.mark.anyio
async def test_a_watch_ends_with_its_network(make_network: Callable[..., AgentNetwork], write_mod: WriteMod) -> None:
    """At once: the thread that waits for changes would go on for seconds."""
    write_mod("echo")
    network = make_network({"watch": True}, mods=["./echo"])
    for _ in range(3):
        await network.initialize()
        assert network.watched_mods == ["echo"]
        await network.shutdown()
