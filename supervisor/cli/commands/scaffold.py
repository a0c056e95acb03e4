"""``modvisor new``: write a mod that loads and a test that passes, as a beginning."""

from __future__ import annotations

import keyword
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from ...causes import cause
from ..settings import Settings
from ..terminal.exits import CliError, ExitCode
from ..terminal.output import Output

_NAME = re.compile(r"[a-z][a-z0-9_]*")

_INIT = Template('"""The $name mod."""\n')

_MOD = Template('''\
"""The $name mod: greets people and counts the greetings."""

from __future__ import annotations

from typing import Any

from modvisor import BaseMod, Event, EventResponse, Refused, mod_event_handler


class $cls(BaseMod):
    """Answer ``$name.greeting.get`` and announce each greeting as ``$name.greeting.given``."""

    version = "0.1.0"
    description = "Greets people and counts the greetings."

    def initialize(self) -> bool:
        self.greeting = self.config.get("greeting", "Hello")
        self.count = 0
        return True

    @mod_event_handler("$name.greeting.get")
    async def on_get(self, event: Event) -> EventResponse:
        name = event.payload.get("name")
        if not isinstance(name, str) or not name:
            raise Refused("name: expected the name of the person to greet", field="name")
        self.count += 1
        given = Event("$name.greeting.given", destination_id="agent:broadcast", payload={"name": name})
        await self.context.send_event(given)
        return EventResponse(True, f"{self.greeting}, {name}!", {"count": self.count})

    # After a reload, set_state() of the new process gets what get_state() of the old one returned.

    def get_state(self) -> dict[str, Any]:
        return {"count": self.count}

    def set_state(self, state: dict[str, Any], from_version: str) -> None:
        self.count = state["count"]
''')

_TEST = Template('''\
"""Test the mod in this process, with a context that records what the mod sends. Run it with: pytest"""

import pytest
from modvisor.worker.testing import ModHarness

from .mod import $cls

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_a_greeting_is_answered_and_announced(tmp_path):
    async with ModHarness($cls, storage_path=tmp_path, config={"greeting": "Good day"}) as mod:
        response = await mod.ask("$name.greeting.get", {"name": "Ada"})
        assert response.success
        assert response.message == "Good day, Ada!"
        assert [event.event_name for event in mod.sent] == ["$name.greeting.given"]


async def test_a_greeting_without_a_name_is_refused(tmp_path):
    async with ModHarness($cls, storage_path=tmp_path) as mod:
        response = await mod.ask("$name.greeting.get")
        assert response.error == "bad_input"
        assert mod.sent == []


async def test_the_count_survives_a_reload(tmp_path):
    async with ModHarness($cls, storage_path=tmp_path) as old:
        await old.ask("$name.greeting.get", {"name": "Ada"})
        state = await old.call("get_state")
    async with ModHarness($cls, storage_path=tmp_path) as new:
        await new.call("set_state", state, "0.1.0")
        response = await new.ask("$name.greeting.get", {"name": "Grace"})
        assert response.data == {"count": 2}
''')

_YAML = Template("""\
# yaml-language-server: $$schema=../$schema
# What the network reads of this mod before it runs. The line above lets an editor complete and check this file;
# 'modvisor schema mod' prints the schema anew. What the network's file says of the mod goes before it.

# requires: [wiki]
# limits:
#   memory: 512MB
""")

_TEMPLATES = {"__init__.py": _INIT, "mod.py": _MOD, "mod.yaml": _YAML, "test_mod.py": _TEST}

SCHEMA_FILE = "mod.schema.json"  # in the folder mods, for all of them


@dataclass(frozen=True, slots=True)
class Made:
    """The files of a new mod."""

    name: str
    folder: Path
    files: list[Path]

    def text(self) -> str:
        """Return what was made, and the next steps."""
        steps = (
            f"test it:            pytest {self.folder}",
            f"load it now:        modvisor load ./{self.name}",
            f"load it at starts:  add '- path: ./{self.name}' to 'mods:' of the network file",
            f'ask it:             modvisor send {self.name}.greeting.get \'{{"name": "Ada"}}\'',
        )
        return "\n".join([f"made {self.folder}: {', '.join(file.name for file in self.files)}", *steps])


def make_mod(name: str, base: Path) -> Made:
    """Write ``base/mods/NAME``; raises `CliError` if the name is not allowed or is taken."""
    _check_name(name)
    folder = base / "mods" / name
    values = {
        "name": name,
        "schema": SCHEMA_FILE,
        "cls": "".join(part.capitalize() for part in name.split("_")) + "Mod",
    }
    try:
        folder.mkdir(parents=True)
        for file, template in _TEMPLATES.items():
            (folder / file).write_text(template.substitute(values), "utf-8")
        (folder.parent / SCHEMA_FILE).write_text(_schema(), "utf-8")
    except OSError as error:
        if folder.is_dir() and isinstance(error, FileExistsError):
            text = f"{folder} is there already; choose another name, or remove it"
            raise CliError(ExitCode.FAILED, text) from None
        raise CliError(ExitCode.FAILED, f"cannot make {folder}: {cause(error, folder)}") from None
    return Made(name, folder, [folder / file for file in _TEMPLATES])


def _schema() -> str:
    from ...config import schema_text

    return schema_text("mod")


def _check_name(name: str) -> None:
    """Whether another module has this name: pytest imports the folder as a package of that name."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > 64:
        raise CliError(
            ExitCode.USAGE, f"NAME {name!r}: expected lower-case letters, digits, underscores, such as 'price_watch'"
        )
    if name in sys.stdlib_module_names or name in ("modvisor", "pytest", "mods"):
        raise CliError(ExitCode.USAGE, f"NAME {name!r} is a module of Python's own or of modvisor; choose another")


def new(
    settings: Settings,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The mod's id: lower-case letters, digits, underscores.")],
    folder: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="Make DIR/mods/NAME. [dim](default: beside the network file)[/dim]"),
    ] = None,
) -> None:
    """Make the folder of a new mod, with a handler and a test that passes."""
    made = make_mod(name, folder or settings.network_file.parent)
    document = {"success": True, "mod_path": f"./{name}", "files": [str(file) for file in made.files]}
    Output(as_json=settings.json).document(document, lambda: print(made.text()))
