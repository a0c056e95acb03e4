"""The quick start of the public face, as a user would type it: every call, every name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse

pytestmark = pytest.mark.anyio

NETWORK_YAML = """
network:
  name: quickstart
agent_groups:
  admins:
    permissions: [mods]
    password_hash: 9c9064c59f1ffa2e174ee754d2979be80dd30db552ec03e7e327e9b1a4bd594e
"""

MESSAGING = """
from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler


class WikiMod(BaseMod):
    version = "0.1"

    def initialize(self) -> bool:
        self.pages = {}
        return True

    def get_state(self):
        return self.pages

    def set_state(self, state, from_version):
        self.pages = state

    @mod_event_handler("notes.page.*")
    async def on_page(self, event: Event) -> EventResponse | None:
        if event.event_name == "notes.page.create":
            self.pages[event.payload["title"]] = event.payload["text"]
        return EventResponse(success=True, data=self.pages)
"""


def write_messaging(folder: Path) -> None:
    """Two mods in a package beside the network file."""
    (folder / "pkg").mkdir()
    for version in (1, 2):
        (folder / "pkg" / f"messaging_v{version}.py").write_text(
            "from modvisor.mods import BaseMod, EventResponse, mod_event_handler\n"
            "class Messaging(BaseMod):\n"
            "    @mod_event_handler('talk.version.get')\n"
            f"    async def get(self, event):\n        return EventResponse(True, data={version})\n"
        )


async def test_the_quick_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("network.yaml").write_text(NETWORK_YAML)
    Path("mods/notes").mkdir(parents=True)
    Path("mods/notes/mod.py").write_text(MESSAGING)

    network = AgentNetwork.load("network.yaml")
    await network.initialize()
    try:
        r = await network.load_mod("modvisor.mods.workspace.wiki", config={"public": True})
        assert r.success, r.message
        assert r.data["mod_id"] == "wiki"
        assert r.data["mod_path"] == "modvisor.mods.workspace.wiki"

        page = Event("wiki.page.create", "agent:alice", payload={"path": "home", "title": "Home", "content": "hello"})
        created = await network.process_event(page)
        assert created.success, created
        found = await network.process_event(Event("wiki.page.get", "agent:bob", payload={"path": "home"}))
        assert found.data["content"] == "hello"

        loaded = network.get_loaded_mods()
        assert set(loaded["wiki"]) >= {"mod_id", "mod_path", "loaded_at", "state", "pid", "version"}
        stats = network.get_network_stats()
        assert stats["dynamic_mods"]["count"] == 1
        assert stats["dynamic_mods"]["loaded"] == ["wiki"]
        assert stats["mods"]["wiki"]["traffic"]["answered"] == 2

        r = await network.load_mod("./notes")
        assert r.success, r.message
        await network.process_event(Event("notes.page.create", "agent:alice", payload={"title": "a", "text": "b"}))
        r = await network.reload_mod("notes")
        assert r.success, r.message
        kept = await network.process_event(Event("notes.page.get", "agent:alice"))
        assert kept.data == {"a": "b"}

        registered = await network.register_agent("alice", metadata={})
        secret = registered.data["secret"]
        outside = Event("wiki.page.get", "agent:alice", payload={"path": "home"}, secret=secret)
        assert (await network.process_external_event(outside)).success
        event = Event("system.mod.unload", "agent:alice", payload={"mod_id": "wiki"}, secret=secret)
        assert (await network.process_external_event(event)).error == "forbidden"

        write_messaging(tmp_path)
        assert (await network.load_mod("pkg.messaging_v1")).success
        r = await network.swap_mod("messaging_v1", "pkg.messaging_v2")
        assert r.success, r.message
        assert (await network.process_event(Event("talk.version.get", "agent:alice"))).data == 2
        assert list(network.get_loaded_mods()) == ["wiki", "notes", "messaging_v2"]
        assert (await network.unload_mod("pkg.messaging_v2")).success

        direct = Event("chat.message", "agent:bob", "agent:alice", payload={"text": "hi"})
        assert await network.process_event(direct) == EventResponse(
            True, "delivered to 1 agent", {"delivered": 1}, "chat.message"
        )
        assert [event.payload for event in await network.poll_events("alice")] == [{"text": "hi"}]

        assert (await network.unload_mod("wiki")).success
        assert (await network.unload_mod("./notes")).success
        assert network.get_loaded_mods() == {}
    finally:
        await network.shutdown()


async def test_as_a_context_manager(tmp_path: Path, write_mod: Callable[..., str]) -> None:
    (tmp_path / "network.yaml").write_text(f"network: {{name: n}}\nmods: [{write_mod('echo')}]\n")
    async with AgentNetwork.load(tmp_path / "network.yaml") as network:
        answer = await network.process_event(Event("test.ping", "agent:alice", payload={"i": 1}))
        assert answer.data == {"pong": 1, "version": "1.0"}
    assert not network.is_running
