"""Mods of OpenAgents in workers of their own, forked from a guardian that has imported them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event

pytestmark = [pytest.mark.usefixtures("started_guardians"), pytest.mark.anyio]

WIKI = "openagents.mods.workspace.wiki"

NOTES = """
import sys
from openagents.core.base_mod import BaseMod, mod_event_handler
from openagents.models.event_response import EventResponse

class NotesMod(BaseMod):
    def __init__(self, name):
        super().__init__(name)
        self.notes = []

    @mod_event_handler("notes.add")
    async def add(self, event):
        self.notes.append(event.payload["text"])
        ahead = "openagents.mods.workspace.wiki.mod" in sys.modules
        return EventResponse(success=True, message="WORD", data={"notes": self.notes, "ahead": ahead})
"""


@pytest.mark.forked
async def test_an_edited_mod_is_reloaded_with_its_state_beside_an_installed_one(
    make_network: Callable[..., AgentNetwork], tmp_path: Path
) -> None:
    file = tmp_path / "mods" / "notes" / "mod.py"
    file.parent.mkdir(parents=True)
    file.write_text(NOTES.replace("WORD", "old"))
    network = make_network(mods=[{"path": "./notes"}, {"path": WIKI}])
    await network.initialize()
    states = {mod_id: mod["state"] for mod_id, mod in network.get_loaded_mods().items()}
    assert states == {"notes": "ready", "wiki": "ready"}
    await network.register_agent("alice")

    async def ask(name: str, **payload: object) -> tuple[str | None, object]:
        response = await network.process_event(Event(name, "alice", payload=payload))
        assert response.success, response
        return response.message, response.data

    assert await ask("notes.add", text="one") == ("old", {"notes": ["one"], "ahead": True})
    await ask("wiki.page.create", page_path="home", title="Home", wiki_content="hello")
    file.write_text(NOTES.replace("WORD", "new"))
    for path in ("./notes", WIKI):
        reloaded = await network.reload_mod(path)
        assert reloaded.success, reloaded
    assert await ask("notes.add", text="two") == ("new", {"notes": ["one", "two"], "ahead": True})
    _, page = await ask("wiki.page.get", page_path="home")
    assert isinstance(page, dict)
    assert page["wiki_content"] == "hello"
    for path in ("./notes", WIKI):
        assert (await network.unload_mod(path)).success
