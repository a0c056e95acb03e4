"""What could be loaded: found in files and metadata; nothing is imported, and what is broken is told."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import InvalidRequirement
from packaging.specifiers import SpecifierSet

from modvisor.supervisor.config.network.network_file import parse_config
from modvisor.supervisor.config.values.versions import Requirement
from modvisor.supervisor.sources.catalogue import available

MOD = """
raise SystemExit("imported")
class {name}(BaseMod):
    version = "{version}"
    description = "a {name}"
    requires = {requires!r}
"""


def write(folder: Path, version: str = "1.0", requires: Any = (), *, name: str = "Wiki", **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mod.py").write_text(MOD.format(name=name, version=version, requires=requires))
    for file, text in files.items():
        (folder / file.replace("_", ".")).write_text(text)
    return folder


def found(base: Path, **config: Any) -> dict[str, dict[str, Any]]:
    network = {"name": "n", **config.pop("network", {})}
    mods = available(parse_config({"network": network, **config}, base_dir=base))
    assert len({mod.mod_path for mod in mods}) == len(mods)
    return {mod.mod_path: mod.to_dict() for mod in mods}


def test_a_folder_of_the_network_with_its_versions(tmp_path: Path) -> None:
    root = write(tmp_path / "mods" / "wiki", "2.0", ["messaging>=2,<3"])
    write(root / "versions" / "1.9", "1.9")
    write(root / "versions" / "1.10", "1.10", mod_yaml="description: older\n")
    assert found(tmp_path)["./wiki"] == {
        "name": "wiki", "mod_path": "./wiki", "source": "network", "where": str(root), "versions": ["2.0", "1.10", "1.9"],
        "description": "a Wiki", "requires": ["messaging<3,>=2"], "optional": [],
        "config_schema": None, "error": None,
    }  # fmt: skip
    (root / "mod.py").unlink()
    older = found(tmp_path)["./wiki"]
    assert (older["versions"], older["description"]) == (["1.10", "1.9"], "older"), (
        "the newest final one is what one gets"
    )


def test_the_schema_of_a_config_is_found_in_the_class_and_in_mod_yaml(tmp_path: Path) -> None:
    of_class = write(tmp_path / "mods" / "one", "1.0")
    source = (of_class / "mod.py").read_text()
    for name, schema in {"one": '{"type": "object"}', "two": '{"type": {1, 2}}', "three": "SCHEMA"}.items():
        folder = write(tmp_path / "mods" / name, "1.0")
        (folder / "mod.py").write_text(f"{source}    config_schema = {schema}\n")
    write(tmp_path / "mods" / "four", "1.0", mod_yaml="config_schema: {required: [key]}\n")
    mods = found(tmp_path)
    assert mods["./one"]["config_schema"] == {"type": "object"}
    assert mods["./four"]["config_schema"] == {"required": ["key"]}
    assert mods["./two"]["config_schema"] is mods["./three"]["config_schema"] is None, "no JSON, or no literal"


def test_what_mod_yaml_says_goes_before_the_class(tmp_path: Path) -> None:
    text = "version: 3.10\ndescription: pages\nrequires: [agents]\noptional: ['search==1.*']\n"
    write(tmp_path / "mods" / "wiki", "2.0", ["messaging>=2"], mod_yaml=text)
    mod = found(tmp_path)["./wiki"]
    assert (mod["versions"], mod["description"]) == (["3.10"], "pages")
    assert (mod["requires"], mod["optional"]) == (["agents"], ["search==1.*"])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"mod.py": "x = ("}, "mod.py:1: SyntaxError"),
        ({"mod.py": b"\xff\xfe\x00"}, "mod.py"),
        ({"mod.py": "class A(BaseMod): pass\nclass B(BaseMod): pass"}, "2 mod classes (A, B)"),
        ({"mod.yaml": "limits: {memory: lots}", "mod.py": ""}, "mod.yaml:1: limits.memory"),
        (
            {"mod.yaml": "requires: ['wiki >= x']", "mod.py": ""},
            "requires[0]: expected the name of a mod and the versions",
        ),
        ({"mod.py": "class A(BaseMod):\n    requires = 'wiki'"}, "requires: expected a list such as"),
        ({"mod.py": "class A(BaseMod):\n    optional = [3]"}, "optional: expected the name of a mod"),
        ({"readme.txt": "no mod"}, "has no mod.py"),
        ({"versions/1.0/mod.py": "x = ("}, "versions/1.0/mod.py:1: SyntaxError"),
    ],
)
def test_one_that_is_broken_is_a_line_with_its_problem(tmp_path: Path, files: dict[str, Any], said: str) -> None:
    write(tmp_path / "mods" / "good")
    for name, content in files.items():
        file = tmp_path / "mods" / "broken" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    mods = found(tmp_path)
    assert said in mods["./broken"]["error"]
    assert mods["./good"]["error"] is None


def test_folders_that_cannot_be_mods(tmp_path: Path) -> None:
    write(tmp_path / "mods" / "__pycache__")
    write(tmp_path / "mods" / ".hidden")
    write(tmp_path / "mods" / "with space")
    write(tmp_path / "mods" / "Big")
    mods = found(tmp_path)
    assert {path for path in mods if path.startswith("./")} == {"./with space", "./Big"}
    assert "expected 'pkg.mods.wiki'" in mods["./with space"]["error"]
    assert "lower-case" in mods["./Big"]["error"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    root = write(tmp_path / "mods" / "secret")
    (root / "mod.py").chmod(0)
    assert "Permission denied" in found(tmp_path)["./secret"]["error"]


def test_packages_on_mod_paths(tmp_path: Path) -> None:
    write(tmp_path / "lib" / "team" / "mods" / "wiki", "1.1")
    write(tmp_path / "lib" / "team" / "mods" / "wiki" / "inner", name="Inner")
    write(tmp_path / "lib" / "team" / "mods" / "old" / "versions" / "0.9", "0.9")
    write(tmp_path / "lib" / "not-importable" / "wiki")
    write(tmp_path / "lib" / "venv" / "lib" / "thing")
    (tmp_path / "lib" / "venv" / "pyvenv.cfg").touch()
    write(tmp_path / "lib" / "a" / "b" / "c" / "d" / "e" / "f")
    mods = found(tmp_path, network={"mod_paths": ["lib"]})
    on_paths = {path: mod["versions"] for path, mod in mods.items() if mod["source"] == "mod_paths"}
    assert on_paths == {"team.mods.wiki": ["1.1"], "team.mods.old": ["0.9"]}


def test_the_bundled_ones_and_who_may_not_be_loaded(tmp_path: Path) -> None:
    mods = {path: mod for path, mod in found(tmp_path).items() if mod["source"] == "bundled"}
    assert [mod["name"] for mod in mods.values()] == ["wiki", "project", "messaging", "analytics"]
    assert all(mod["versions"] == ["1.0.0"] and mod["description"] and not mod["error"] for mod in mods.values())
    mods = found(tmp_path, allowed_mods=["modvisor.mods.workspace.wiki"])
    assert mods["modvisor.mods.workspace.wiki"]["error"] is None
    assert mods["modvisor.mods.workspace.project"]["error"] == "the network's allowed_mods do not include it"


def install(site: Path, name: str, entry_points: str, version: str = "2.5") -> None:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: mods of a team\n"
    )
    (info / "entry_points.txt").write_text(entry_points)


def test_what_installed_distributions_offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    write(site / "team" / "shop", "4.0", ["wiki>=1"], name="Shop")
    (site / "team_flat.py").write_text("raise SystemExit('imported')")
    install(site, "team-mods", "[modvisor.mods]\nshop = team.shop\nflat = team_flat:Flat\nBad Name = team.shop.mod\n")
    install(site, "odd", "[modvisor.mods]\nodd = not a path!\n")
    install(site, "other", "[console_scripts]\nother = other:main\n")
    monkeypatch.syspath_prepend(str(site))
    mods = {path: mod for path, mod in found(tmp_path).items() if mod["source"] == "installed"}
    shop = mods["team.shop"]
    assert (shop["name"], shop["where"], shop["versions"]) == ("shop", "team-mods 2.5", ["4.0"])
    assert (shop["requires"], shop["description"], shop["error"]) == (["wiki>=1"], "a Shop", None)
    flat = mods["team_flat:Flat"]
    assert (flat["name"], flat["versions"], flat["description"]) == ("flat", ["2.5"], "mods of a team")
    assert "its entry point 'Bad Name'" in mods["team.shop.mod"]["error"]
    assert "its entry point 'odd'" in mods["notapath!"]["error"]
    assert not {"team", "team.shop", "team_flat"} & set(sys.modules)


@given(st.text())
def test_a_requirement_is_read_or_told_to_be_none(text: str) -> None:
    try:
        requirement = Requirement.parse(text)
    except InvalidRequirement:
        return
    assert Requirement.parse(str(requirement)) == requirement


@pytest.mark.parametrize(
    "text", ["wiki[extra]", "wiki; python_version > '3'", "wiki @ https://x.invalid", "", 3, None, "Wiki"]
)
def test_what_only_packages_can_ask_for_is_refused(text: Any) -> None:
    with pytest.raises(InvalidRequirement, match="such as 'messaging>=2,<3', got"):
        Requirement.parse(text)


def test_which_versions_will_do() -> None:
    wanted = Requirement.parse("messaging>=2,<3")
    assert wanted == Requirement("messaging", SpecifierSet(">=2,<3"))
    assert [wanted.allows(version) for version in ("2", "2.9.1", "3", "1.9", "words", None)] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]
    assert wanted.allows("2.1rc1"), "whoever has one loaded wants it"
    assert Requirement.parse("messaging").allows(None)
