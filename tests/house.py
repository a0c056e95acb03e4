"""The plan of the house, read from the sources: rooms, sizes, and which file imports which.

`make house` prints it. `tests/test_architecture.py` checks the same facts.

A room is a folder, or one of the files of `supervisor/` that stand between folders. `ROOMS`
names the rooms from the ground up. A file may import the rooms before its own, as far as `MAY` lets
its floor. A file that lies in `supervisor/` and has no room is in `FLAT`, which has no place in the
order: it may import every room, and every room may import it.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parent.parent
LONG = 400
TOO_LONG = 450

# What a floor may import of the others: whole folders, or single modules of them.
MAY = {
    "ipc": set[str](),
    "mods": {"ipc.event", "ipc.partition", "ipc.topic", "ipc.errors"},
    "worker": {"mods", "ipc"},
    "supervisor": {"ipc"},
    "modvisor": {"ipc", "mods", "worker", "supervisor"},
}
FLOORS = tuple(MAY)

SUPERVISOR_ROOMS = (
    *("config", "process", "limits", "sources", "agents", "journal", "audit", "tracing", "calls", "lifecycle"),
    *("fleet", "events", "metrics", "cluster"),
    *(
        "inspection.py",
        "overview.py",
        "audited.py",
        "agent_operations.py",
        "operations.py",
        "command.py",
        "agent_commands.py",
        "commands.py",
        "http",
        "wiring.py",
        "network.py",
        "openagents",
        "__init__.py",
        "cli",
    ),
)
ROOMS = (
    *("ipc", "mods", "mods/workspace", "worker/hosts", "worker/hosts/openagents", "worker", "worker/guardian"),
    *(f"supervisor/{room}" for room in SUPERVISOR_ROOMS),
    "modvisor",
)
# The folders inside a room, from the ground up. They are imported file by file: only the room has a face.
INSIDE = {
    "supervisor/config": (
        *("node_folder.py", "port_urls.py", "yaml", "values", "sections", "mods", "redaction.py", "network", "printed"),
        "__init__.py",
    ),
    "supervisor/agents": (
        *("rights", "inboxes", "agent.py", "guests.py", "streams.py", "mirrors.py", "channels.py", "directory.py"),
        *("delivery.py", "joining.py", "registry.py", "described.py", "nodes", "__init__.py"),
    ),
    "supervisor/fleet": (
        *("read_models.py", "claims.py", "mods", "responses.py", "registry", "commands", "figures", "nodes"),
        "__init__.py",
    ),
    "supervisor/cluster": ("link", "nodes", "mods", "events", "kept", "agents", "moving", "cluster.py", "__init__.py"),
    "supervisor/http": (
        *("content", "routes", "wire", "door", "access", "requests", "agents", "websocket", "probes.py"),
        *("board", "admin", "embedded.py", "server.py", "documents.py", "__init__.py"),
    ),
    "supervisor/cli": (
        *("settings.py", "terminal", "client", "options", "render", "at_rest", "graph", "top", "running", "commands"),
        *("app.py", "__init__.py", "__main__.py"),
    ),
}
FLAT = "supervisor (flat)"

# The command line starts fast because it imports files instead of faces, and late.
NOT_THROUGH_FACES = {"supervisor/cli", FLAT}

Node = TypeVar("Node", bound=Hashable)


@dataclass(frozen=True)
class Arrow:
    """An import of one file of the house by another one."""

    file: str
    line: int
    to: str
    module: str
    """The module as the statement names it, e.g. `ipc.event` in `from ..ipc.event import Event`."""

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.to}"


@cache
def files() -> tuple[str, ...]:
    """Return every product file, as a path below the root."""
    found = (path for floor in FLOORS for path in (ROOT / floor).rglob("*.py"))
    return tuple(sorted(path.relative_to(ROOT).as_posix() for path in found))


@cache
def known() -> frozenset[str]:
    return frozenset(files())


@cache
def tree_of(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text())


@cache
def imports_of(file: str) -> tuple[tuple[ast.Import | ast.ImportFrom, str | None], ...]:
    """Return the imports of a file, each with the function that it stands in. Expressions hold none, and are most nodes."""
    found = list[tuple[ast.Import | ast.ImportFrom, str | None]]()
    todo: list[tuple[ast.AST, str | None]] = [(tree_of(file), None)]
    while todo:
        node, function = todo.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append((node, function))
        elif not isinstance(node, ast.expr):
            inner = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
            todo += [(child, inner) for child in ast.iter_child_nodes(node)]
    return tuple(sorted(found, key=lambda each: each[0].lineno))


@cache
def lines_of(file: str) -> int:
    return len((ROOT / file).read_text().splitlines())


def room_of(file: str) -> str:
    """Return the room that a file stands in: the longest name of `ROOMS` that its path starts with."""
    fits = [room for room in ROOMS if file == room or file.startswith(room + "/")]
    return max(fits, key=len, default=FLAT)


def arrows() -> list[Arrow]:
    """Return all imports inside the house, those under `if TYPE_CHECKING` and inside functions too."""
    return [arrow for file in files() for arrow in arrows_of(file)]


@cache
def arrows_of(file: str) -> tuple[Arrow, ...]:
    found = []
    for node, _function in imports_of(file):
        if isinstance(node, ast.ImportFrom):
            module = _named(file, node)
            found += [(node.lineno, f"{module}.{alias.name}", module) for alias in node.names]
        else:
            found += [(node.lineno, alias.name, alias.name) for alias in node.names]
    seen = (Arrow(file, line, to, _short(module)) for line, name, module in found if (to := _file_of(name)))
    return tuple(dict.fromkeys(arrow for arrow in seen if arrow.to != file))


def _named(file: str, node: ast.ImportFrom) -> str:
    """Return the absolute name of the module that a `from … import` names."""
    if not node.level:
        return node.module or ""
    package = ("modvisor", *file.split("/")[:-1])
    if package[1:2] == ("modvisor",):
        package = package[1:]  # the files of modvisor/ are the root package itself
    return ".".join((*package[: len(package) - node.level + 1], *filter(None, [node.module])))


def _short(module: str) -> str:
    return module.removeprefix("modvisor.")


def _file_of(name: str) -> str | None:
    """Return the file of the house that holds `name`, a module or what a module defines."""
    first, *parts = name.split(".")
    if first != "modvisor":
        return None
    for inside in (parts, parts[:-1]):
        path = "/".join(inside or ["modvisor"])
        for file in (f"{path}.py", f"{path}/__init__.py"):
            if file in known():
                return file
    return None


def upward() -> list[Arrow]:
    """Return the imports that run up: to a later room, or to a floor that `MAY` does not name."""
    return [arrow for arrow in arrows() if _runs_up(arrow) or not _is_let(arrow)]


def _runs_up(arrow: Arrow) -> bool:
    here, there = room_of(arrow.file), room_of(arrow.to)
    return FLAT not in (here, there) and ROOMS.index(there) > ROOMS.index(here)


def upward_inside() -> list[Arrow]:
    """Return the imports that run up between the folders inside one room."""
    return [
        arrow
        for arrow in arrows()
        for room, order in INSIDE.items()
        if arrow.file.startswith(room + "/") and arrow.to.startswith(room + "/")
        if order.index(_folder(arrow.to, room)) > order.index(_folder(arrow.file, room))
    ]


def _folder(file: str, room: str) -> str:
    return file.removeprefix(room + "/").split("/")[0]


def _is_let(arrow: Arrow) -> bool:
    floor, module = arrow.file.split("/")[0], arrow.to.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    may = {floor, *MAY[floor]}
    return any(module == name or module.startswith(name + ".") for name in may)


def past_a_face() -> list[Arrow]:
    """Return the imports that reach into another room of `supervisor/` instead of asking its face.

    `from . import room` is an import of the face, too: its names are imported when they are used.
    """
    return [arrow for arrow in arrows() if _is_past_a_face(arrow)]


def _is_past_a_face(arrow: Arrow) -> bool:
    here, there = room_of(arrow.file), room_of(arrow.to)
    if here == there or here in NOT_THROUGH_FACES or not here.startswith("supervisor/"):
        return False
    if not (ROOT / there).is_dir() or not there.startswith("supervisor/"):
        return False
    return arrow.module != there.replace("/", ".") and arrow.to != f"{there}/__init__.py"


def hidden() -> list[tuple[str, int, str]]:
    """Return the relative imports inside functions: file, line, function. The command line defers its own."""
    return [
        (file, node.lineno, function)
        for file in files()
        if room_of(file) != "supervisor/cli"
        for node, function in imports_of(file)
        if function is not None and isinstance(node, ast.ImportFrom) and node.level
    ]


def circles_of_files() -> list[list[str]]:
    return circles((arrow.file, arrow.to) for arrow in arrows())


def circles_of_rooms() -> list[list[str]]:
    """Return the circles of rooms; `FLAT` has no place in the order and is left out."""
    pairs = ((room_of(arrow.file), room_of(arrow.to)) for arrow in arrows())
    return circles(pair for pair in pairs if FLAT not in pair)


def circles(pairs: Iterable[tuple[Node, Node]]) -> list[list[Node]]:
    """Return the sets of nodes that reach one another, each sorted."""
    out = defaultdict[Node, set[Node]](set)
    for here, there in pairs:
        out[here].add(there)
    below = {node: _reached(node, out) for node in list(out)}
    found = {frozenset(other for other in below if other in below[node] and node in below[other]) for node in below}
    return sorted(sorted(circle) for circle in found if len(circle) > 1)  # type: ignore[type-var]


def _reached(start: Node, out: Mapping[Node, set[Node]]) -> set[Node]:
    found, todo = {start}, [start]
    while todo:
        fresh = out.get(todo.pop(), set()) - found
        found |= fresh
        todo += fresh
    return found


def long_files(limit: int) -> dict[str, int]:
    return {file: lines_of(file) for file in files() if lines_of(file) > limit}


def report() -> Iterable[str]:
    """Yield the lines that `make house` prints."""
    rooms = defaultdict[str, list[str]](list)
    for file in files():
        rooms[room_of(file)].append(file)
    yield f"{'room':26} {'files':>5} {'lines':>6}  longest"
    for room in (*ROOMS, FLAT):
        if inside := rooms.get(room):
            longest = max(inside, key=lines_of)
            yield f"{room:26} {len(inside):5} {sum(map(lines_of, inside)):6}  {longest} {lines_of(longest)}"
    yield f"{'all':26} {len(files()):5} {sum(map(lines_of, files())):6}  {len(arrows())} imports"
    yield from _told(f"files over {LONG} lines", [f"{lines:5} {file}" for file, lines in _by_length()])
    yield from _told("circles of files", [" <-> ".join(circle) for circle in circles_of_files()])
    yield from _told("circles of rooms", [" <-> ".join(circle) for circle in circles_of_rooms()])
    yield from _told("imports that run up", list(map(str, upward())))
    yield from _told("imports past a face", list(map(str, past_a_face())))


def _by_length() -> list[tuple[str, int]]:
    return sorted(long_files(LONG).items(), key=lambda item: -item[1])


def _told(what: str, lines: list[str]) -> Iterable[str]:
    yield ""
    yield f"{what}: {len(lines) or 'none'}"
    yield from (f"  {line}" for line in lines)


if __name__ == "__main__":
    sys.stdout.writelines(line + "\n" for line in report())
