"""How many bytes a folder takes on disk."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from modvisor.supervisor.limits.disk_usage import disk_usage


def test_the_size_of_a_folder_is_that_of_du(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(bytes(100_000))
    (tmp_path / "two").write_bytes(b"x")
    os.link(tmp_path / "a" / "one", tmp_path / "same")
    (tmp_path / "elsewhere").symlink_to("/usr")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(10**12)
    told = int(subprocess.run(["du", "-s", "-B1", tmp_path], capture_output=True, check=True).stdout.split()[0])
    own = 512 * tmp_path.stat().st_blocks
    assert disk_usage(tmp_path) == told - own
    assert 100_000 <= disk_usage(tmp_path) < 200_000


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert disk_usage(tmp_path / "nothing") == 0


def test_a_look_can_be_given_up(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(100_000))
    assert disk_usage(tmp_path, lambda: True) == 0
