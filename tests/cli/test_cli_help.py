"""`--help` of each command: examples that run, its own words for values, the common options told once."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from modvisor.supervisor.cli.app import app
from modvisor.supervisor.cli.options.examples import EXAMPLES
from tests import warm
from tests.ports import free_port

from .conftest import COMMAND, DEADLINE, Command, Running, Served

PROGRAM: Any = typer.main.get_command(app)
NAMES = [
    name
    for top, command in PROGRAM.commands.items()
    for name in (top, *(f"{top} {below}" for below in getattr(command, "commands", {})))
]
LINES = [(name, line) for name, examples in EXAMPLES.items() for line, _ in examples]

NETWORK = """
network: {name: demo, port: 0}
mods:
  - modvisor.mods.workspace.wiki
  - {path: ./echo, max_attempts: 1, restart: {first_delay: 0, max_restarts: 100}}
"""
THEIRS = "network: {name: theirs, mode: centralized}\nmods: [{name: openagents.mods.workspace.messaging}]\n"
DIES = """
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Echo(BaseMod):
        def initialize(self):
            print("up", flush=True)

        @mod_event_handler("test.ping")
        async def ping(self, event):
            return EventResponse(True, "pong")

        @mod_event_handler("test.die")
        async def die(self, event):
            os._exit(3)
"""

ALONE = {"run", "start", "init", "stop", "restore", "cluster", "node"}
"""These start or end a network of their own, or want none."""
ON_A_TERMINAL = {"modvisor top"}
"""Tests of its own run it on one."""
USUAL = {"run", "load", "logs", "dlq", "dlq purge", "token create"}
FIRST = {
    "modvisor reload wiki": ("load", "modvisor.mods.workspace.wiki"),  # the examples of 'unload' have unloaded it
    "modvisor agent forget alice": ("send", "system.register_agent", '{"agent_id": "alice"}', "--as", "agent:alice"),
}
"""What must have been done before an example."""
ENDLESS = {"events", "logs"}
"""These go on until Ctrl-C, some of them."""


@pytest.mark.parametrize(
    "name", [name if name in USUAL else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_help_has_examples_and_no_types_and_tells_the_common_options_elsewhere(cli: Command, name: str) -> None:
    text = cli.ok(*name.split(), "--help")
    assert "Examples:" in text
    assert not re.search(r"<\w+>", text)
    assert "<=" not in text
    assert "--token " not in text.partition("Examples:")[0]
    assert "--json, --file, --socket, --url, --token and --node work here, too" in text
    assert {line for line, _ in EXAMPLES[name]} == {line.strip() for line in text.splitlines()} & dict(
        EXAMPLES[name]
    ).keys()


def test_the_program_tells_the_common_options(cli: Command) -> None:
    text = cli.ok("--help")
    for option in ("--json", "--file", "--socket", "--url", "--token", "--version"):
        assert option in text
    assert "Exit codes:\n" in text
    assert "0 done, 1 failed, 2 usage, 3 no_network" in text


def test_no_example_is_left_of_a_command_that_is_gone() -> None:
    assert EXAMPLES.keys() == set(NAMES)
    for name, line in LINES:
        assert f"modvisor {name.partition(' ')[0]}" in line


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A network with an event that died, a token, an invite and the files that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "mods" / "echo").mkdir(parents=True)
    (folder / "mods" / "echo" / "mod.py").write_text(textwrap.dedent(DIES))
    (folder / "network.yaml").write_text(NETWORK)
    (folder / "theirs.yaml").write_text(THEIRS)
    (folder / "payload.json").write_text("{}")
    (folder / "events.jsonl").write_text(json.dumps({"event_name": "test.ping", "source_id": "agent:ann"}))
    served = Served(folder)
    yield served
    served.stop()


@pytest.mark.slow
def test_every_example_runs(network: Served, cli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order: what one example loads, the next one uses."""
    monkeypatch.chdir(network.folder)
    for name, line in LINES:
        if name.split()[0] in ALONE or line in ON_A_TERMINAL:
            continue
        if name == "invite revoke":
            line = line.replace("INVITE", cli.json("invite", "list")["invites"][0]["invite_id"])
        if line in FIRST:
            cli.ok(*FIRST[line])
        if "LETTER" in line:
            cli("send", "test.die", "--as", "agent:ann")
            line = line.replace("LETTER", str(cli.json("dlq", "ls")["dead_letters"][0]["letter_id"]))
        code = 1 if name in ("dlq replay",) else 0  # the mod dies of the event again
        _run(line, cli, code, endless=name in ENDLESS)


def _run(line: str, cli: Command, code: int, *, endless: bool) -> None:
    feeding, _, line = line.rpartition(" | ")
    words = shlex.split(line.partition(" > ")[0])[1:]
    stdin = " ".join(shlex.split(feeding)[1:]).removeprefix("%s ") or None
    if endless and ("-f" in words or words[0] == "events"):
        _run_endless(words)
        return
    result = cli(*words, stdin=stdin or "")
    assert result.exit_code == code, f"{line}: {result.output}"


def _run_endless(words: list[str]) -> None:
    with warm.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            says = process.stderr if words == ["events", "wiki.*"] else process.stdout
            assert says.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE) == 5
        finally:
            process.kill()


@pytest.mark.slow
def test_examples_of_restore(served: Served, cli: Command) -> None:
    for line in (line for name, line in LINES if name == "backup"):
        _run(line, cli, 0, endless=False)
    served.stop()
    for line in (line for name, line in LINES if name == "restore"):
        _run(line, cli, 0, endless=False)


@pytest.mark.parametrize("line", [line for name, line in LINES if name in ("init",)])
def test_examples_of_init_make_what_runs(cli: Command, line: str, tmp_path: Path) -> None:
    cli.ok(*shlex.split(line)[1:])
    (file,) = tmp_path.glob("**/network.yaml")
    assert cli.json("validate", str(file))["valid"]


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for name, line in LINES if name in ("run", "start")])
def test_examples_of_run_and_start(cli: Command, write_mod: Callable[..., str], tmp_path: Path, line: str) -> None:
    write_mod("echo")
    (tmp_path / "network.yaml").write_text("network: {name: demo, port: 0}\nmods: [./echo]\n")
    words = shlex.split(line)[1:]
    if words[0] == "start":
        # In a process of its own: the network would be a child of this one, which would never reap it.
        started = warm.run([*COMMAND, *words], timeout=DEADLINE)
        assert started.returncode == 0, started.stderr
        stops = [line for name, line in LINES if name == "stop"]
        for stop in stops:
            assert cli(*shlex.split(stop)[1:]).exit_code == (0 if stop == stops[0] else 3)
        return
    with warm.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            while not process.stdout.readline().startswith("ready in "):
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_examples_of_cluster_and_node(
    cli: Command, start: Callable[..., Running], write_mod: Callable[..., str], tmp_path: Path
) -> None:
    """A network on one machine is moved into a cluster, runs there on two nodes, and is moved back."""
    write_mod("echo")
    alone = "network: {name: demo, port: 0}\nmods: [./echo]\n"
    state = tmp_path / ".modvisor"
    one = start(network=alone)
    cli.ok("load", "./echo", "--id", "second")
    assert one.end() == 0
    (tmp_path / "network.yaml").write_text(f"{alone}cluster: {{lease: 1s}}\n")
    run: list[str] = []

    def example(line: str) -> None:
        run.append(line)
        line = line.replace("4222", str(free_port()))
        done = warm.run(
            [*COMMAND, *shlex.split(line)[1:]], timeout=DEADLINE
        )  # the server would be a child of this process
        assert done.returncode == 0, f"{line}: {done.stderr}"

    try:
        example("modvisor cluster up")
        example("modvisor cluster down")
        example("modvisor cluster up --port 4222")
        shutil.copy(state / "network.db", tmp_path)
        example("modvisor cluster import .modvisor")
        shutil.copy(tmp_path / "network.db", state)
        example("modvisor cluster import .modvisor --replace")
        nodes = [start("--node", name, network=None, ready=False) for name in "ab"]
        for node in nodes:
            node.until("ready")
        for line in ("cluster status", "node ls", "node ls --json", "node drain b"):
            example(f"modvisor {line}")
        assert [node.end() for node in nodes] == [0, 0]
        example("modvisor cluster export .modvisor")
    finally:
        cli("cluster", "down")
    assert set(run) == {line for name, line in LINES if name.split()[0] in ("cluster", "node")}
