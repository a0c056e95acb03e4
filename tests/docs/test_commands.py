"""Every command of modvisor in the docs is one that there is, with options that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from modvisor.supervisor.cli.app import app

from .pages import steps

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROGRAM: Any = get_command(app)


def modvisor_in(command: str) -> Iterator[list[str]]:
    """Yield the words after each `modvisor` of a line of shell."""
    line = re.sub(r"\s#\s.*", "", command)
    for part in re.split(r"&&|\|(?!\|)|;|\$\(|\)", line):
        words = shlex.split(part, comments=True) if part.count("'") % 2 == part.count('"') % 2 == 0 else part.split()
        places = [i for i, word in enumerate(words) if word == "modvisor" or word.endswith("/bin/modvisor")]
        if places:
            yield words[places[-1] + 1 :]


def unknown_in(words: list[str]) -> list[str]:
    """Return what of a command line is no command or no option."""
    group, known = PROGRAM, {option for param in PROGRAM.params for option in param.opts}
    for word in words:
        if not word.startswith("-") and word in getattr(group, "commands", {}):
            group = group.commands[word]
            known |= {option for param in group.params for option in [*param.opts, *param.secondary_opts]}
        elif group is PROGRAM and word.isalpha() and "--" not in " ".join(words[: words.index(word)]):
            return [word]
    options = [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [option for option in options if option not in known | {"--help", "-h"}]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_are_there(page: Path) -> None:
    shown = [step.command for step in steps(page.read_text("utf-8")) if step.command]
    wrong = {line: unknown_in(words) for line in shown for words in modvisor_in(line) if unknown_in(words)}
    assert wrong == {}


def test_what_is_not_there_is_found() -> None:
    assert unknown_in(["reload", "--hard", "wiki"]) == ["--hard"]
    assert unknown_in(["relaod", "wiki"]) == ["relaod"]
    assert unknown_in(["--json", "dlq", "ls", "-n", "3"]) == []
    assert list(modvisor_in("cd a && modvisor ps  # shows")) == [["ps"]]
