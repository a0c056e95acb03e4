"""`modvisor.mods.workspace.store_mod`: a bundled mod's file is opened, and closed at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import modvisor.mods.workspace
from modvisor.mods import BaseMod
from modvisor.mods.workspace.store_mod import StoreMod
from modvisor.supervisor.sources.class_source import class_attributes
from modvisor.worker.testing import ModHarness

pytestmark = pytest.mark.anyio


class Store:
    """A store that notes its path and whether it is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


class NotesMod(StoreMod, BaseMod):
    def initialize(self) -> Any:
        return self.config.get("start", True)

    def activate(self) -> None:
        self.notes = self.open("notes.db", Store, "channel:news")


async def test_a_mod_announces_while_its_file_is_open(tmp_path: Path) -> None:
    async with ModHarness(NotesMod, storage_path=tmp_path) as notes:
        assert (notes.mod.notes.path, notes.mod.notes.is_open) == (tmp_path / "notes.db", True)
        await notes.mod.announce.send("notes.change.created", {})
    assert [event.destination_id for event in notes.sent] == ["channel:news"]
    assert not notes.mod.notes.is_open


async def test_a_mod_that_refused_to_start_shuts_down(tmp_path: Path) -> None:
    harness = ModHarness(NotesMod, storage_path=tmp_path, config={"start": False})
    with pytest.raises(AssertionError, match=r"NotesMod\.initialize\(\) returned False"):
        await harness.__aenter__()
    await harness.__aexit__()


@pytest.mark.parametrize("name", ["wiki", "project", "messaging", "analytics"])
def test_what_a_mod_says_of_itself_is_found_without_an_import(name: str) -> None:
    source = Path(modvisor.mods.workspace.__path__[0], name, "mod.py").read_text()
    said = class_attributes(source)
    assert said["version"] == "1.0.0"
    assert said["description"].endswith(".")
