"""The floors of the house: imports point down only, nothing is missed in the wheel, a worker stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("ipc", "mods", "worker", "supervisor")

# What a folder may import of the house: its own floor, and these.
MAY = {
    "ipc": set(),
    "mods": {"ipc.event", "ipc.partition", "ipc.topic", "ipc.errors"},
    "worker": {"mods", "ipc"},
    "supervisor": {"ipc"},
}
FILES = [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


def imports_of(path: Path) -> set[str]:
    """The modules of the house that a file imports, as ``floor.module``, relative imports resolved."""
    package = path.relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                prefix = ".".join((*base, *(node.module.split(".") if node.module else ())))
                names = [f"{prefix}.{alias.name}" if not node.module else prefix for alias in node.names]
            elif node.module:
                names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found.update(name.removeprefix("modvisor.") for name in names)
    return {name for name in found if name.split(".")[0] in FLOORS}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_only(path: Path) -> None:
    floor = path.relative_to(ROOT).parts[0]
    for name in imports_of(path):
        top = name.split(".")[0]
        allowed = top == floor or any(name == ok or name.startswith(ok + ".") for ok in MAY[floor])
        assert allowed, f"{path.relative_to(ROOT)} imports {name}; {floor} may import {sorted(MAY[floor]) or 'nothing'}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_house_is_imported_at_the_top_of_a_file(path: Path) -> None:
    """An import inside a function hides a circle. (The command line defers heavy imports; it is at the top of all.)"""
    if "cli" in path.parts:
        return
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            hidden = [node for node in ast.walk(function) if isinstance(node, ast.ImportFrom) and node.level]
            assert not hidden, f"{path.relative_to(ROOT)}:{hidden[0].lineno}: import inside {function.name}()"


def test_every_package_is_named_for_the_wheel() -> None:
    named = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {
        "modvisor." + ".".join(path.parent.relative_to(ROOT).parts)
        for floor in FLOORS
        for path in (ROOT / floor).rglob("__init__.py")
    }
    assert named == present


def test_a_worker_needs_python_and_msgpack_only() -> None:
    script = """
import sys
import modvisor.worker.serve
house = {name for name in sys.modules if name.startswith("modvisor.")}
heavy = {"anyio", "yaml", "psutil", "typer", "rich", "starlette", "uvicorn", "httpx", "pydantic", "packaging", "resolvelib"}
print(sorted(heavy & {name.split(".")[0] for name in sys.modules}), [n for n in house if n.startswith("modvisor.supervisor")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[] []"
