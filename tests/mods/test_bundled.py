"""What holds for all bundled mods: they load by path, and README.md tells of every event and config key."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import modvisor.mods
import modvisor.mods.workspace
from modvisor.mods import BaseMod
from modvisor.mods.handlers import collect_handlers
from modvisor.worker.loader import find_mod_class, sources_for

FOLDER = Path(modvisor.mods.workspace.__path__[0])
NAMES = ("wiki", "project", "messaging", "analytics")


def mod_class(name: str) -> type[BaseMod]:
    path = f"modvisor.mods.workspace.{name}"
    return find_mod_class(path, sources_for(path, None))


def section(name: str) -> str:
    readme = (FOLDER / "README.md").read_text()
    return re.split(r"^## ", readme, flags=re.M)[1 + NAMES.index(name)]


@pytest.mark.parametrize("name", NAMES)
def test_a_mod_loads_by_its_path_and_describes_itself(name: str) -> None:
    cls = mod_class(name)
    assert cls.version == "1.0.0"
    assert cls.description.endswith(".")
    assert (FOLDER / name / "__init__.py").read_text().startswith('"""')


@pytest.mark.parametrize("name", NAMES)
def test_every_handled_event_is_documented_and_nothing_else(name: str) -> None:
    documented = re.findall(r"^\| `([a-z_.*]+)` \|", section(name), flags=re.M)
    handled = {handler.pattern for handler in collect_handlers(mod_class(name)())}
    assert len(documented) == len(set(documented))
    assert set(documented) == handled


@pytest.mark.parametrize("name", NAMES)
def test_announced_names_are_documented_and_not_handled(name: str) -> None:
    text = section(name)
    handled = {handler.pattern for handler in collect_handlers(mod_class(name)())}
    source = (FOLDER / name / "mod.py").read_text()
    prefixes = set(re.findall(r'f?"([a-z]+\.(?:change|delivery))\.', source))
    for prefix in prefixes:
        named = set(re.findall(rf'"{re.escape(prefix)}\.([a-z_]+)"', source))
        told = set(re.findall(r'self\._tell\("([a-z_]+)"', source)) if f'f"{prefix}.' in source else set()
        expected = {f"{prefix}.{what}" for what in named | told}
        assert expected == set(re.findall(rf"`({re.escape(prefix)}\.[a-z_]+)`", text))
        assert not expected & handled
    assert bool(prefixes) == (name != "analytics")


@pytest.mark.parametrize("name", NAMES)
def test_every_config_key_is_documented(name: str) -> None:
    source = (FOLDER / name / "mod.py").read_text()
    body = source[source.index("config = Given(self.config)") : source.index("config.done()")]
    keys = set(re.findall(r'config\.\w+\(\s*"(\w+)"', body))
    table = section(name).split("| Config |")[1]
    assert set(re.findall(r"^\| (\w+) \|", table, flags=re.M)) == keys


def test_bundled_mods_import_the_sdk_as_users_do() -> None:
    """From modvisor.mods itself, and only what it offers; everything else lies in the workspace."""
    for path in FOLDER.rglob("*.py"):
        depth = len(path.relative_to(FOLDER).parts)  # 1: beside the mods, 2: in one
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("modvisor") for alias in node.names), path
            elif isinstance(node, ast.ImportFrom) and node.level > depth:
                assert (node.level, node.module) == (depth + 1, None), f"{path}:{node.lineno}"
                names = {alias.name for alias in node.names}
                assert names <= set(modvisor.mods.__all__), f"{path}:{node.lineno}"
            elif isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("modvisor"), f"{path}:{node.lineno}"
