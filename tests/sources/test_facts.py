"""What the files of a mod say of it: mod.yaml overrides the class."""

from __future__ import annotations

from pathlib import Path

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.config.values.versions import Requirement
from modvisor.supervisor.sources.facts import ModFacts, class_requirements, facts_of

CLASS = """
class Shop(BaseMod):
    version = "1.0"
    description = "Sells things."
    requires = ["wiki>=2"]
"""


def mod(tmp_path: Path, source: str, **files: str) -> Path:
    (tmp_path / "mod.py").write_text(source)
    for name, text in files.items():
        (tmp_path / name.replace("_", ".")).write_text(text)
    return tmp_path


def test_the_class_speaks_for_a_mod_without_a_mod_yaml(tmp_path: Path) -> None:
    wiki = Requirement.parse("wiki>=2")
    assert facts_of(mod(tmp_path, CLASS)) == ModFacts("1.0", "Sells things.", (wiki,))
    assert class_requirements(tmp_path) == ((wiki,), ())


def test_mod_yaml_overrides_the_class(tmp_path: Path) -> None:
    found = facts_of(mod(tmp_path, CLASS, mod_yaml="version: 2.10\nrequires: []\noptional: [analytics]"))
    assert found == ModFacts("2.10", "Sells things.", (), (Requirement.parse("analytics"),))


def test_every_problem_is_named_and_hides_nothing_else(tmp_path: Path) -> None:
    found = facts_of(mod(tmp_path, CLASS.replace('["wiki>=2"]', "'wiki'"), mod_yaml="version: ["))
    assert found.version == "1.0"
    assert found.problem is not None
    assert "mod.yaml:1: not valid YAML" in found.problem
    assert "requires: expected a list" in found.problem
    assert facts_of(tmp_path / "nowhere").problem == f"the folder {tmp_path / 'nowhere'} has no mod.py"


def test_a_class_with_a_malformed_requirement_is_an_invalid_mod(tmp_path: Path) -> None:
    with pytest.raises(ModvisorError, match="expected the name of a mod and the versions to accept") as caught:
        class_requirements(mod(tmp_path, CLASS.replace("wiki>=2", "wiki >> 2")))
    assert caught.value.code == "invalid_mod"


def test_the_worker_reports_a_source_that_cannot_be_read(tmp_path: Path) -> None:
    assert class_requirements(mod(tmp_path, "requires (")) == ((), ())
    assert class_requirements(tmp_path / "nowhere") == ((), ())
