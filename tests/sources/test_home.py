"""Where a mod is, and which of its versions is loaded: decided without importing it."""

from __future__ import annotations

import ctypes
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.config.mods.entry import parse_mod
from modvisor.supervisor.config.mods.mod_file import ModFile
from modvisor.supervisor.config.network.network_file import load_config
from modvisor.supervisor.config.values.versions import WrongVersion
from modvisor.supervisor.config.yaml.source import ConfigError
from modvisor.supervisor.sources.facts import facts_of
from modvisor.supervisor.sources.home import Home, find_home, version_folders, with_mod_files

PR_SET_DUMPABLE = 4


def write(folder: Path, version: str, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mod.py").write_text(f"class Wiki(BaseMod):\n    version = {version!r}\n")
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(textwrap.dedent(text))
    return folder


def home(base: Path, path: str = "./wiki", **keys: Any) -> Home:
    return find_home(parse_mod({"path": path, **keys}, base_dir=base), base, [str(base / "lib")])


def test_only_folders_with_a_mod_and_a_version_for_a_name_are_versions(tmp_path: Path) -> None:
    root = tmp_path / "wiki"
    for name in ("1.10", "1.9", "not a version", "2.0rc1"):
        write(root / "versions" / name, name)
    (root / "versions" / "3.0").mkdir()
    (root / "versions" / "4.0").touch()
    assert list(version_folders(root)) == ["1.9", "1.10", "2.0rc1"]
    assert version_folders(tmp_path) == {}
    assert home(tmp_path).folder == root / "versions" / "1.10"
    assert home(tmp_path, version="2.0.0rc1").folder == root / "versions" / "2.0rc1"
    with pytest.raises(WrongVersion, match=r"no version 3 of \./wiki; available in .*: 1.9, 1.10, 2.0rc1$"):
        home(tmp_path, version="3")


def test_the_folder_itself_is_a_version_too(tmp_path: Path) -> None:
    root = write(tmp_path / "mods" / "wiki", "2.0")
    old = write(root / "versions" / "1.0", "1.0", mod_yaml="durable: true\n")
    assert home(tmp_path) == home(tmp_path, version="2") == Home(root, None, True)
    assert home(tmp_path, version="1") == Home(old, ModFile(str(old / "mod.yaml"), "durable: true\n"), True)
    write(root, "2.0", mod_yaml="version: 2.5")
    assert facts_of(root).version == "2.5", (
        "mod.yaml speaks for a mod before its class does; its worker will say if they differ"
    )
    (root / "mod.yaml").write_text("version: [")
    assert facts_of(root).version == "2.0"


def test_a_package_is_imported_by_its_name_unless_it_is_another_version_or_for_another_python(tmp_path: Path) -> None:
    root = write(tmp_path / "lib" / "team" / "wiki", "2.0")
    old = write(root / "versions" / "1.0", "1.0")
    assert home(tmp_path, "team.wiki") == Home(root)
    assert home(tmp_path, "team.wiki.mod:Wiki") == Home(root)
    assert home(tmp_path, "team.wiki", version="1.0") == Home(old, None, True)
    (tmp_path / "python").touch(0o755)
    assert home(tmp_path, "team.wiki", python="python") == Home(root, None, True)
    assert home(tmp_path, "team.nowhere") == Home()
    bundled = home(tmp_path, "modvisor.mods.workspace.wiki")
    assert bundled.folder is not None, "an editable install is no folder on sys.path"
    assert facts_of(bundled.folder).version == "1.0.0"


def test_validate_names_the_entry_whose_version_is_not_there(tmp_path: Path) -> None:
    write(tmp_path / "mods" / "wiki", "2.0")
    file = tmp_path / "network.yaml"
    file.write_text(
        "network: {name: n}\nmods:\n  - {path: ./wiki, version: 2.0}\n  - {path: ./wiki, id: b, version: 1.10}\n"
    )
    with pytest.raises(ConfigError) as caught:
        with_mod_files(load_config(file))
    (problem,) = caught.value.problems
    assert (problem.file, problem.key) == (str(file), "mods[1].version")
    assert "there is no version 1.10 of ./wiki" in problem.message


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach. The test runs as a user who may not read everything."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        user = os.geteuid()
        yield Path(name)
        os.seteuid(user)
        if sys.platform == "linux":  # as it was: whoever changes its user is not dumpable any more
            ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)


def test_a_folder_that_cannot_be_read_is_that_mods_failure(open_folder: Path) -> None:
    root = write(open_folder / "mods" / "wiki", "1.0")
    (open_folder / "network.yaml").write_text("network: {name: demo}\nmods: [./wiki]\n")
    root.chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    with pytest.raises(ModvisorError, match=r"^\./wiki: .* cannot be read: Permission denied; make it readable"):
        home(open_folder)
    with pytest.raises(ConfigError, match=r"mods\[0\]: \./wiki: .* cannot be read"):
        with_mod_files(load_config(open_folder / "network.yaml"))
    os.seteuid(os.getuid())
    root.chmod(0o700)
