"""What a strict mod reads of Python, and of folders that hold more than its code."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modvisor.supervisor.cell.readable import readable
from modvisor.supervisor.config import ModConfig, mod_config


@pytest.fixture
def config(tmp_path: Path) -> ModConfig:
    return mod_config("pkg.wiki", base_dir=tmp_path)


def test_of_the_network_files_folder_it_sees_its_own_package(config: ModConfig, tmp_path: Path) -> None:
    found = readable(config, tmp_path, [tmp_path, tmp_path / "mods"])
    assert tmp_path not in found
    assert {tmp_path / "pkg", tmp_path / "pkg.py", tmp_path / "mods"} <= set(found)


def test_of_a_folder_on_the_path_of_this_program_it_sees_its_own_package(
    config: ModConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    monkeypatch.syspath_prepend(str(project))
    found = readable(config, tmp_path, [project])
    assert project not in found
    assert project / "pkg" in found


def test_of_a_virtual_environment_in_a_project_it_sees_what_is_pythons(config: ModConfig, tmp_path: Path) -> None:
    python = tmp_path / "project" / "bin" / "python"
    found = readable(replace(config, python=python), tmp_path, [python.parent.parent])
    assert tmp_path / "project" not in found
    assert {tmp_path / "project" / "lib", tmp_path / "project" / "pyvenv.cfg"} <= set(found)


def test_it_sees_the_networks_python_but_not_the_supervisors_code(config: ModConfig, tmp_path: Path) -> None:
    found = readable(config, tmp_path, [])
    assert Path(sys.base_prefix, "lib") in found
    assert any(path.name == "worker" for path in found)
    assert not any(path.name == "supervisor" for path in found)


@pytest.mark.parametrize("given", [True, False])
def test_files_among_a_programs_arguments_are_seen_if_the_network_file_names_them(
    config: ModConfig, tmp_path: Path, given: bool
) -> None:
    for name in ("worker", "data"):
        (tmp_path / name).touch()
    given_keys = frozenset({"command"} if given else ())
    config = replace(config, command=(str(tmp_path / "worker"), "data", "--flag"), given=given_keys)
    found = readable(config, tmp_path, [])
    assert tmp_path / "worker" in found
    assert (tmp_path / "data" in found) == given
