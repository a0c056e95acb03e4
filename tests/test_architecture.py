"""The floors and rooms of the house: imports point down only, no file is long, a worker stays light.

`make house` prints what these tests read. The sets below name what the house still owes; each may
only shrink, and a name that is no longer true must leave.
"""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib

import pytest

import modvisor.mods
import modvisor.supervisor

from . import house
from .house import FLOORS, ROOT

STILL_LONG: set[str] = set()
STILL_UP: set[tuple[str, str]] = set()
STILL_PAST_A_FACE: set[tuple[str, str]] = set()
STILL_A_CIRCLE: set[tuple[str, ...]] = set()
STILL_CIRCLES_OF_FILES: set[tuple[str, ...]] = set()


def test_imports_point_down_only() -> None:
    fresh = [str(arrow) for arrow in house.upward() if (arrow.file, arrow.to) not in STILL_UP]
    assert not fresh, "imports that run up the order of rooms (house.ROOMS, house.MAY):\n" + "\n".join(fresh)
    mended = STILL_UP - {(arrow.file, arrow.to) for arrow in house.upward()}
    assert not mended, f"no longer an import that runs up, take it out of STILL_UP: {sorted(mended)}"


def test_imports_between_the_folders_of_a_room_point_down_only() -> None:
    assert not [str(arrow) for arrow in house.upward_inside()]


def test_a_room_is_imported_through_its_face() -> None:
    fresh = [str(arrow) for arrow in house.past_a_face() if (arrow.file, arrow.to) not in STILL_PAST_A_FACE]
    assert not fresh, "import these from the room, whose __init__.py re-exports its face:\n" + "\n".join(fresh)
    mended = STILL_PAST_A_FACE - {(arrow.file, arrow.to) for arrow in house.past_a_face()}
    assert not mended, f"now imported through the face, take it out of STILL_PAST_A_FACE: {sorted(mended)}"


def test_no_rooms_import_each_other_in_a_circle() -> None:
    assert {tuple(circle) for circle in house.circles_of_rooms()} == STILL_A_CIRCLE


def test_no_files_import_each_other_in_a_circle() -> None:
    """Inside a room too: its files import one another from the file, never from their own face."""
    assert {tuple(circle) for circle in house.circles_of_files()} == STILL_CIRCLES_OF_FILES


def test_the_house_is_imported_at_the_top_of_a_file() -> None:
    """An import inside a function hides a circle. The command line defers heavy imports, and nothing imports it."""
    found = [f"{file}:{line}: import inside {function}()" for file, line, function in house.hidden()]
    assert not found, "\n".join(found)


def test_no_file_is_long() -> None:
    found = house.long_files(house.TOO_LONG)
    fresh = {file: lines for file, lines in found.items() if file not in STILL_LONG}
    assert not fresh, f"split these by what they are about; at most {house.TOO_LONG} lines: {fresh}"
    mended = STILL_LONG - found.keys()
    assert not mended, f"no longer long, or moved: take it out of STILL_LONG: {sorted(mended)}"


def test_a_file_stands_in_the_room_of_its_folder() -> None:
    places = ("ipc/event.py", "supervisor/keeper.py", "supervisor/http/admin/app.py", "worker/guardian/tree.py")
    assert [house.room_of(file) for file in places] == ["ipc", house.FLAT, "supervisor/http", "worker/guardian"]
    assert house.room_of("supervisor/network.py") == "supervisor/network.py"


def test_circles_are_found_whatever_hangs_on_them() -> None:
    assert house.circles([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("f", "a")]) == [["a", "b", "c"]]
    assert house.circles([("a", "b"), ("a", "c"), ("b", "c")]) == []


def test_every_package_is_named_for_the_wheel() -> None:
    named = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = [path.parent.relative_to(ROOT).parts for floor in FLOORS for path in (ROOT / floor).rglob("__init__.py")]
    assert named == {".".join(("modvisor", *parts)).replace("modvisor.modvisor", "modvisor") for parts in folders}


def test_a_worker_needs_python_and_msgpack_only() -> None:
    script = """
import sys
import modvisor.worker.serve
from modvisor import BaseMod, Event
house = {name for name in sys.modules if name.startswith("modvisor.")}
heavy = {"anyio", "yaml", "psutil", "typer", "rich", "starlette", "uvicorn", "httpx", "pydantic", "packaging", "resolvelib"}
print(sorted(heavy & {name.split(".")[0] for name in sys.modules}), [n for n in house if n.startswith("modvisor.supervisor")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[] []"


def test_another_framework_is_imported_only_by_the_room_that_hosts_its_mods() -> None:
    """Never by the supervisor, nor by a worker of our mods."""
    importers = {
        house.room_of(file)
        for file in house.files()
        for node, _function in house.imports_of(file)
        if (isinstance(node, ast.Import) and any(alias.name.startswith("openagents") for alias in node.names))
        or (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").startswith("openagents"))
    }
    assert importers == {"worker/hosts/openagents", "worker/guardian"}
    mods = {file for file in house.files() if file.startswith("worker/guardian/") and "openagents" in file}
    assert mods == {"worker/guardian/rehearsed_openagents.py"}


def test_the_face_offers_what_it_lists_and_imports_it_late() -> None:
    script = """
import sys
import modvisor
early = sorted(name for name in sys.modules if name.startswith("modvisor."))
modvisor.AgentNetwork, modvisor.BaseMod
print(early, [name for name in modvisor.__all__ if name not in dir(modvisor) or getattr(modvisor, name) is None])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[] []"


def test_the_face_is_the_same_objects_as_the_longer_paths() -> None:
    assert modvisor.AgentNetwork is modvisor.supervisor.AgentNetwork
    assert modvisor.Event is modvisor.mods.Event is modvisor.supervisor.Event
    assert modvisor.BaseMod is modvisor.mods.BaseMod
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = modvisor.Nothing


def _offered(call: ast.Call) -> list[tuple[str | None, str]]:
    """Return what a call of `lazily` offers: file, names. Files in folders stand in its second argument."""
    in_folders: dict[str, str] = ast.literal_eval(call.args[1]) if len(call.args) > 1 else {}
    return [*in_folders.items(), *((keyword.arg, str(ast.literal_eval(keyword.value))) for keyword in call.keywords)]


def test_a_room_re_exports_what_its_type_checkers_see() -> None:
    for path in sorted((ROOT / "supervisor").glob("*/__init__.py")):
        tree = ast.parse(path.read_text())
        seen = {
            (node.module, alias.name)
            for block in tree.body
            if isinstance(block, ast.If)
            for node in block.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazily"]
        offered = {(file, name) for call in calls for file, names in _offered(call) for name in names.split()}
        assert seen == offered, f"{path.parent.name}: run both lists against each other: {seen ^ offered}"
        room = importlib.import_module(f"modvisor.supervisor.{path.parent.name}")
        assert all(hasattr(room, name) for _, name in offered), path.parent.name
