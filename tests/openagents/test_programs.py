"""Programs that were written for OpenAgents: with one import line changed they print the same here.

Each runs twice, in a process of its own: on OpenAgents' own network with all mods in that process,
and on a network of modvisor. The second has a copy of the program whose one line differs.
"""

from __future__ import annotations

import difflib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ports import free_port

PROGRAMS = Path(__file__).parent / "programs"
THEIR_IMPORT = "from openagents.sdk.network import AgentNetwork, Event\n"
OUR_IMPORT = "from modvisor.openagents import AgentNetwork, Event\n"


def printed(program: Path, folder: Path) -> list[str]:
    """What a program prints, in a folder of its own."""
    folder.mkdir()
    port = str(free_port())
    (folder / "network.yaml").write_text((PROGRAMS / "network.yaml").read_text().replace("PORT", port))
    first = "network.yaml" if program.name == "forum_helper.py" else port
    done = subprocess.run(
        [sys.executable, str(program), first, str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.slow  # each imports openagents three times
@pytest.mark.parametrize("name", ["forum_helper", "mods_on_demand", "team_room"])
def test_a_program_prints_the_same_with_one_line_changed(name: str, tmp_path: Path) -> None:
    theirs = PROGRAMS / f"{name}.py"
    text = theirs.read_text("utf-8")
    assert text.count(THEIR_IMPORT) == 1
    ours = tmp_path / f"{name}.py"
    ours.write_text(text.replace(THEIR_IMPORT, OUR_IMPORT), "utf-8")
    expected, found = printed(theirs, tmp_path / "theirs"), printed(ours, tmp_path / "ours")
    assert len(expected) > 10
    assert found == expected, "\n".join(difflib.unified_diff(expected, found, "openagents", "modvisor", lineterm=""))
