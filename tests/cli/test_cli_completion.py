"""The completion scripts of the shells: each asks the program, which asks the running network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import DEADLINE, Command, Served, Shell

BASH = """
source completion
COMP_WORDS=(modvisor {words} "") COMP_CWORD={count}
_modvisor_completion modvisor
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
FISH = """
source completion
complete -C "modvisor {words} "
"""
ZSH = """
compdef() {{ :; }}
_arguments() {{ printf '%s\\n' "$@"; }}
source completion
words=(modvisor {words} "") CURRENT={count}+1
_modvisor_completion
"""
SHELLS = {"bash": BASH, "fish": FISH, "zsh": ZSH}


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)


def offered(shell: str, words: str) -> str:
    code = SHELLS[shell].format(words=words, count=len(words.split()) + 1)
    done = subprocess.run([shell, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("on_path")
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_offers_live_ids(asked: Served, cli: Command, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (asked.folder / "completion").write_text(cli.ok("completion", shell))
    assert "echo" in offered(shell, "unload")
    assert "test.ping" in offered(shell, "send")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_the_program_and_its_variable(cli: Command, shell: str) -> None:
    script = cli.ok("completion", shell)
    assert "_MODVISOR_COMPLETE=complete_" in script
    assert "modvisor" in script


def test_tokens_invites_and_common_options_are_offered(asked: Served, cli: Command, shell: Shell) -> None:
    cli.ok("token", "create", "ci", "--scope", "read")
    cli.ok("invite", "create")
    (invite,) = cli.json("invite", "list")["invites"]
    assert shell("modvisor token revoke ") == ["ci"]
    assert shell("modvisor invite revoke ") == [invite["invite_id"]]
    assert shell("modvisor ps --js") == ["--json"]
