"""``docs/cli.md`` names every command, argument, option, exit code and variable, and no option that is not there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from modvisor.supervisor.cli import settings
from modvisor.supervisor.cli.app import app
from modvisor.supervisor.cli.client import client, target
from modvisor.supervisor.cli.options import complete
from modvisor.supervisor.cli.running import run
from modvisor.supervisor.cli.terminal.exits import ExitCode
from modvisor.supervisor.process.crashes import Cause

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
PROGRAM = typer.main.get_command(app)
COMMANDS: dict[str, Any] = {}
"""By name: ``ps``, ``dlq``, ``dlq ls``."""
for name, command in PROGRAM.commands.items():  # pyright: ignore[reportAttributeAccessIssue]
    COMMANDS[name] = command
    COMMANDS |= {f"{name} {below}": each for below, each in getattr(command, "commands", {}).items()}
SHARED_NAMES = {param.name for param in PROGRAM.params}
SHARED = {option for param in PROGRAM.params for option in param.opts if option.startswith("-")}


def section(title: str) -> str:
    """The text below a heading, up to the next one."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", TEXT, re.S | re.M)
    assert found, f"docs/cli.md has no section {title!r}"
    return found[1]


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section_with_its_options(name: str) -> None:
    text = section(f"modvisor {name}")
    params = [param for param in COMMANDS[name].params if param.name not in SHARED_NAMES]
    for param in params:
        for option in [*param.opts, *param.secondary_opts] if param.param_type_name == "option" else [param.metavar]:
            assert f"`{option}" in text or f" {option}" in text, f"modvisor {name}: {option} is not documented"
    known = SHARED | {option for param in params for option in [*param.opts, *param.secondary_opts]}
    table = "\n".join(line for line in text.splitlines() if line.startswith("| `-"))
    assert options_in(table) <= known


def test_no_section_is_left_of_a_command_that_is_gone() -> None:
    assert set(re.findall(r"^#+ modvisor ([\w-]+(?: \w+)?)$", TEXT, re.M)) == set(COMMANDS)


def test_the_shared_options_are_documented_once() -> None:
    text = section("Options of every command")
    assert {option for option in SHARED if f"`{option}" not in text} == set()


def test_every_exit_code_is_documented() -> None:
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", section("Exit codes"), re.M)
    assert [(int(number), name) for number, name in rows] == [(code.value, code.name) for code in ExitCode]


def test_every_cause_of_a_crash_is_documented() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", section("modvisor crashes"), re.M)) == set(Cause)


def test_every_variable_is_documented() -> None:
    source = "".join(map(inspect.getsource, (client, complete, run, settings, target)))
    used = set(re.findall(r'environ\.get\("(\w+)"\)', source))
    assert used == {"MODVISOR_FILE", "MODVISOR_URL", "MODVISOR_TOKEN", "MODVISOR_NODE"}
    for name in used:
        assert f"`{name}`" in section("Options of every command")
