"""``modvisor run`` as a process: what it says, the signals it obeys, what is left of it."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import psutil
import pytest

from modvisor.ipc.launching import SUPERVISOR_NICE
from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.cli.running.run import _Masking
from modvisor.supervisor.limits.turns import TURN, turn_of
from tests import warm

from .conftest import COMMAND, DEADLINE, NETWORK, Command, Running

Start = Callable[..., Running]

SLOW = """
    import asyncio
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Slow(BaseMod):
        @mod_event_handler("slow.nap.take")
        async def nap(self, event):
            while not os.path.exists(event.payload["until"]):
                await asyncio.sleep(0.005)
            return EventResponse(True, "slept")
"""
STARTS_SLOWLY = """
    import time
    from modvisor.mods import BaseMod

    class Sluggish(BaseMod):
        def initialize(self):
            print("initializing", flush=True)
            time.sleep(30)
"""


def test_a_network_on_every_address_prints_one_that_can_be_opened(tmp_path: Path, cli: Command) -> None:
    file = "network: {name: demo, host: 0.0.0.0, port: 0, insecure: true}\nadmin: {token: a-token-of-some-length}\n"
    (tmp_path / "network.yaml").write_text(file)
    with warm.Popen([*COMMAND, "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            said = list(takewhile(lambda line: not line.startswith("ready in "), process.stdout))
            told = cli("status").stdout
        finally:
            process.kill()
    [line] = [line for line in said if line.startswith("  http ")]
    assert re.fullmatch(r"  http     http://127\.0\.0\.1:\d+ \(and every other address of this machine\)\n", line)
    assert line in told


def test_says_where_it_listens_and_what_it_loaded(start: Start, tmp_path: Path, write_mod: Callable[..., str]) -> None:
    write_mod("broken", "raise RuntimeError('no luck')")
    running = start(network=NETWORK + "  - path: ./broken\n", ready=False)
    said = running.until("ready")
    assert said["name"] == "demo"
    assert said["pid"] == running.pid
    assert said["url"] == f"http://127.0.0.1:{said['port']}"
    assert said["admin_socket"] == str(tmp_path / ".modvisor" / "run" / "admin.sock")
    assert said["storage"] == str(tmp_path / ".modvisor")
    echo, broken = said["mods"]
    assert (echo["mod_id"], echo["version"], echo["state"], echo["last_error"]) == ("echo", "1.0", "ready", None)
    assert psutil.pid_exists(echo["pid"])
    assert (broken["mod_id"], broken["state"], broken["pid"]) == ("broken", "failed", None)
    assert "no luck" in broken["last_error"]


def test_for_people_it_prints_lines(tmp_path: Path, write_mod: Callable[..., str]) -> None:
    write_mod("echo")
    (tmp_path / "network.yaml").write_text(NETWORK)
    with warm.Popen([*COMMAND, "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if line.startswith("ready in "):
                    break
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    assert lines[0] == f"network demo (pid {process.pid})\n"
    assert any(line.startswith("  http     http://127.0.0.1:") for line in lines)
    assert any(line.startswith("  loaded   echo 1.0  pid ") for line in lines)
    assert rest.splitlines() == ["SIGINT: stopping; once more to kill", "stopped"]
    assert errors == "", "nothing is said twice"
    assert process.returncode == 0


def test_it_runs_on_the_loop_that_its_file_names(start: Start) -> None:
    running = start(network=NETWORK.replace("port: 0", "port: 0, event_loop: asyncio"), ready=False)
    assert running.until("ready")["event_loop"] == "asyncio"
    assert running.end() == 0


@pytest.mark.skipif(turn_of() is None, reason="this kernel knows no turns of a process")
@pytest.mark.parametrize("scheduling", ["auto", "off"])
def test_network_and_mods_have_short_turns_and_the_network_a_larger_share(start: Start, scheduling: str) -> None:
    running = start(network=NETWORK.replace("port: 0", f"port: 0, scheduling: {scheduling}"), ready=False)
    (echo,) = running.until("ready")["mods"]
    assert {turn_of(running.pid), turn_of(echo["pid"])} == {TURN if scheduling == "auto" else turn_of()}
    assert os.getpriority(os.PRIO_PROCESS, echo["pid"]) == 0
    if os.geteuid() == 0:
        assert os.getpriority(os.PRIO_PROCESS, running.pid) == (SUPERVISOR_NICE if scheduling == "auto" else 0)
    assert running.end() == 0


def test_a_broken_uvloop_costs_a_warning_and_not_the_start(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "uvloop.py").write_text("raise ImportError('loop.so: undefined symbol')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    running = start(ready=False)
    assert running.until("ready")["event_loop"] == "asyncio"
    assert running.end() == 0
    (told,) = (line for line in running.stderr.splitlines() if "uvloop" in line)
    assert "loop.so: undefined symbol" in told
    assert "pip install --force-reinstall uvloop" in told


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(running: Running, signum: int) -> None:
    assert running.workers
    assert running.end(signum) == 0
    assert running.left() == set()
    assert running.until("stopped")
    assert not (running.folder / ".modvisor" / "run" / "admin.sock").exists()


def test_an_event_in_flight_is_finished_before_the_end(
    start: Start, cli: Command, write_mod: Callable[..., str]
) -> None:
    write_mod("slow", SLOW)
    running = start(network=NETWORK + "  - path: ./slow\n")
    morning = running.folder / "mods" / "morning"  # a mod does not see new files beside the network file
    with subprocess.Popen(
        [*COMMAND, "send", "slow.nap.take", '{"until": "MORNING"}'.replace("MORNING", str(morning))],
        stdout=subprocess.PIPE,
        text=True,
    ) as sender:
        try:
            while cli.json("stats", "slow")["traffic"]["in_flight"] == 0:
                assert sender.poll() is None
            running.process.send_signal(signal.SIGTERM)
            running.until("stopping")
            morning.touch()
            assert running.process.wait(DEADLINE) == 0
            answer, _ = sender.communicate(timeout=DEADLINE)
        finally:
            sender.kill()
    assert answer.startswith("slept")


def test_a_second_signal_kills(start: Start, cli: Command, write_mod: Callable[..., str]) -> None:
    write_mod("slow", SLOW)
    running = start(network=NETWORK + "  - path: ./slow\n    limits: {unload_timeout: 300}\n")
    with warm.Popen(
        [*COMMAND, "send", "slow.nap.take", '{"until": "/never"}', "--timeout", "300"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as sender:
        try:
            while cli.json("stats", "slow")["traffic"]["in_flight"] == 0:
                assert sender.poll() is None
            running.process.send_signal(signal.SIGTERM)
            running.until("stopping")
            assert running.end(signal.SIGINT) == 128 + signal.SIGINT
        finally:
            sender.kill()
    running.wait_for_wardens()
    assert running.left() == set()


def test_a_signal_while_it_starts_gives_the_start_up(start: Start, write_mod: Callable[..., str]) -> None:
    write_mod("sluggish", STARTS_SLOWLY)
    running = start(network=NETWORK + "  - path: ./sluggish\n", ready=False)
    log = running.folder / ".modvisor" / "logs" / "sluggish.log"
    while not log.exists() or "initializing" not in log.read_text():
        assert running.process.poll() is None
    assert running.end() == 0
    assert running.left() == set()
    assert [each["happened"] for each in _rest(running)] == ["stopping", "stopped"]


def test_sighup_takes_over_the_changed_file(start: Start, cli: Command, write_mod: Callable[..., str]) -> None:
    running = start()
    write_mod("second")
    file = running.folder / "network.yaml"
    file.write_text(NETWORK.replace("demo", "other") + "    config: {loud: true}\n  - path: ./second\n")
    os.kill(running.pid, signal.SIGHUP)
    said = running.until("reconfigured")
    assert said["success"]
    assert list(said["added"]) == ["second"]
    assert list(said["changed"]) == ["echo"]
    assert "name" in said["needs_restart"]
    assert [mod["mod_id"] for mod in cli.json("ps")["mods"]] == ["echo", "second"]
    file.write_text(NETWORK)
    os.kill(running.pid, signal.SIGHUP)
    assert list(running.until("reconfigured")["removed"]) == ["second"]


def test_mistakes_in_the_changed_file_leave_everything_as_it_is(running: Running, cli: Command) -> None:
    before = cli.json("ps")["mods"][0]["pid"]
    (running.folder / "network.yaml").write_text("network: {name: demo, prot: 1}\nmods: 7\n")
    os.kill(running.pid, signal.SIGHUP)
    assert len(running.until("kept")["problems"]) == 2
    assert "did you mean 'port'?" in running.stderr
    assert cli.json("ps")["mods"][0]["pid"] == before


def test_port_and_host_of_the_command_line_stay_when_the_file_is_read_again(start: Start, cli: Command) -> None:
    running = start("--port", "0", "--host", "127.0.0.2", network=NETWORK.replace("port: 0", "port: 1"))
    assert running.said[-1]["url"].startswith("http://127.0.0.2:")
    os.kill(running.pid, signal.SIGHUP)
    assert running.until("reconfigured")["needs_restart"] == []
    assert cli.json("reconfigure")["data"]["needs_restart"] == [], "the command knows the options of the run, too"


def test_it_outlives_the_reader_of_its_first_lines(start: Start, cli: Command, tmp_path: Path) -> None:
    running = start()
    assert running.process.stdout is not None
    running.process.stdout.close()
    os.kill(running.pid, signal.SIGHUP)  # answered with a line that nobody reads
    assert cli.json("ps")["mods"]
    assert running.end() == 0
    assert "Broken" not in running.stderr


DIES = """
    import os
    from modvisor.mods import BaseMod, mod_event_handler

    class Dies(BaseMod):
        @mod_event_handler("die.now")
        async def die(self, event):
            os._exit(3)
"""


def test_a_fresh_start_counts_on_the_file_alone(start: Start, cli: Command, write_mod: Callable[..., str]) -> None:
    write_mod("dies", DIES)
    network = NETWORK + "  - {path: ./dies, max_attempts: 1, restart: {max_restarts: 0}}\n"
    running = start(network=network)
    cli.ok("load", "./echo", "--id", "second")
    cli.ok("send", "system.register_agent", '{"agent_id": "ann"}', "--as", "agent:ann")
    assert cli("send", "die.now", "--as", "agent:ann").exit_code == 1
    while cli.json("stats", "dies")["state"] != "quarantined":
        assert running.process.poll() is None
    assert running.end() == 0

    def states(said: Running) -> dict[str, str]:
        return {mod["mod_id"]: mod["state"] for mod in said.said[-1]["mods"]}

    running = start(network=None)
    assert states(running) == {"echo": "ready", "dies": "quarantined", "second": "ready"}
    assert running.end() == 0
    assert states(start("--fresh", network=None)) == {"echo": "ready", "dies": "ready"}
    assert cli.json("send", "system.list_agents")["data"]["agents"][0]["agent_id"] == "ann"


def test_a_second_start_is_refused_and_names_the_first(running: Running, cli: Command) -> None:
    result = warm.run([*COMMAND, "--json", "run"], timeout=DEADLINE)
    assert result.returncode == 7
    assert f"(pid {running.pid})" in result.stderr
    assert "Traceback" not in result.stderr
    assert '"already_running"' in result.stdout
    assert cli.ok("ps")


def test_a_taken_port_is_named(running: Running, tmp_path: Path) -> None:
    port = running.said[-1]["port"]
    other = tmp_path / "other.yaml"
    other.write_text(f"network: {{name: other, port: {port}, storage: elsewhere}}\n")
    result = warm.run([*COMMAND, "run", str(other)], timeout=DEADLINE)
    assert result.returncode == 8
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_required_mod_that_fails_is_the_reason(tmp_path: Path, write_mod: Callable[..., str]) -> None:
    write_mod("broken", "raise RuntimeError('no luck')")
    (tmp_path / "network.yaml").write_text("network: {name: x}\nmods: [{path: ./broken, required: true}]\n")
    result = warm.run([*COMMAND, "run"], timeout=DEADLINE)
    assert result.returncode == 8
    assert "error: network.yaml did not start: a required mod failed" in result.stderr
    assert "no luck" in result.stderr


@pytest.mark.parametrize("command", ["run", "validate"])
def test_all_mistakes_of_the_file_are_printed(cli: Command, tmp_path: Path, command: str) -> None:
    (tmp_path / "network.yaml").write_text("network: {name: x, prot: 1}\nmods: 7\n")
    result = cli(command)
    assert result.exit_code == 4
    assert "network.yaml has 2 mistakes:" in result.stderr
    assert "network.yaml:1: network.prot: unknown key; did you mean 'port'?" in result.stderr
    assert "network.yaml:2: mods: expected a list of mods" in result.stderr
    assert result.stdout == ""


def _rest(running: Running) -> list[dict[str, object]]:
    assert running.process.stdout is not None
    return [json.loads(line) for line in running.process.stdout]


def test_the_messages_of_the_network_are_masked() -> None:
    record = logging.LogRecord("modvisor.x", logging.WARNING, "", 0, "refused token=%s", ("abc",), None)
    network = AgentNetwork.from_config({"network": {"name": "x"}, "redact": ["pin"]})
    assert _Masking(network).format(record).endswith("refused token=***")
