"""Commands that pages show are run: they print what the page shows, or at least they end well."""

from __future__ import annotations

from pathlib import Path

import pytest

from .consoles import Shell, is_as_shown, steps

DOCS = Path(__file__).parents[2] / "docs"
TUTORIAL = (DOCS / "tutorial.md").read_text("utf-8")
NOT_HERE = ("python3 -m venv", "pip install")
"""How these commands begin that prepare a machine: the tests run in an environment that has them done."""


@pytest.mark.slow
@pytest.mark.parametrize("page", ["tutorial", "debugging", "limiting"])
def test_each_command_prints_what_the_page_shows(page: str, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    try:
        for step in steps((DOCS / f"{page}.md").read_text("utf-8")):
            if step.file:
                (shell.folder / step.file).parent.mkdir(parents=True, exist_ok=True)
                (shell.folder / step.file).write_text(step.text, "utf-8")
            elif not step.command.startswith(NOT_HERE):
                printed = shell.run(step.command)
                assert is_as_shown(printed, step.text), f"$ {step.command}\n{printed}\n--- the page shows\n{step.text}"
            if step.command.startswith("modvisor init"):
                use_a_free_port(shell.folder / "network.yaml")
    finally:
        shell.run("modvisor stop")


WIKI = """
from modvisor.mods import BaseMod

class Wiki(BaseMod):
    version = "{version}"
"""
NETWORK = "network: {name: demo, port: 0}\nmods: [{path: ./wiki}, {path: ./wiki, id: shop}]\n"


@pytest.mark.slow
@pytest.mark.parametrize("page", ["versions", "operating"])
def test_the_commands_of_a_page_work_in_a_network_that_runs(page: str, tmp_path: Path) -> None:
    """They end well, one after the other; those that follow something would not end."""
    text = (DOCS / f"{page}.md").read_text("utf-8")
    block = text[text.index("```console") :].partition("\n```")[0] + "\n```"
    for folder, version in (("mods/wiki", "1.0"), ("mods/wiki/versions/2.0", "2.0")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "mod.py").write_text(WIKI.format(version=version))
    (tmp_path / "network.yaml").write_text(NETWORK)
    shell = Shell(tmp_path)
    try:
        shell.run("modvisor start -d")
        commands = [step.command for step in steps(block) if " -f " not in step.command]
        assert len(commands) >= 5
        for command in commands:
            printed = shell.run(f"{command}\necho exit code $?")
            assert printed.endswith("exit code 0\n"), f"$ {command}\n{printed}"
    finally:
        shell.run("modvisor stop")


def use_a_free_port(file: Path) -> None:
    text = file.read_text("utf-8")
    assert "port: 8700" in text
    file.write_text(text.replace("port: 8700", "port: 0"), "utf-8")


def test_the_first_page_shows_commands_of_the_tutorial() -> None:
    """They are run there."""
    told = {step.command for step in steps(TUTORIAL)}
    assert {step.command for step in steps((DOCS / "index.md").read_text("utf-8"))} <= told


@pytest.mark.parametrize(
    ("printed", "shown", "same"),
    [
        ("ready in 12 ms\n", "ready in 164 ms\n", True),
        ("a   1\nb\nc\n", "a 22\n…\nc\n", True),
        ("a\nb\n", "a\n", False),
        ("error: a\n", "error: b\n", False),
        ("anything\n", "", True),
    ],
)
def test_what_is_printed_is_compared_as_far_as_it_is_stable(printed: str, shown: str, same: bool) -> None:
    assert is_as_shown(printed, shown) is same
