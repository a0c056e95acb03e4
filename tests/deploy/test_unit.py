"""systemd's own judgement of the unit."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from .debian import ROOT, run

UNIT = ROOT / "deploy" / "systemd" / "modvisor.service"
EXPOSURE = 4.0  # of 10; systemd calls up to 5 "OK". What is left of it, mods need for their cells.

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"),
]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A root with the unit, and the programs that it names."""
    folder = tmp_path / "etc" / "systemd" / "system"
    folder.mkdir(parents=True)
    shutil.copy(UNIT, folder)
    program = tmp_path / "opt" / "modvisor" / "bin" / "modvisor"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for target in ("sysinit", "basic", "shutdown", "multi-user", "network-online"):
        (folder / f"{target}.target").write_text("[Unit]\nDescription=a target\n")
    return tmp_path


def test_it_has_no_mistakes(installed: Path) -> None:
    said = run("systemd-analyze", "verify", "--man=no", f"--root={installed}", "modvisor.service")
    assert [line for line in said.splitlines() if "modvisor" in line] == []


def test_it_gives_away_no_more_than_it_must(installed: Path) -> None:
    said = run("systemd-analyze", "security", "--offline=yes", f"--root={installed}", "--no-pager", "modvisor.service")
    found = re.search(r"Overall exposure level for modvisor.service: ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= EXPOSURE, said
