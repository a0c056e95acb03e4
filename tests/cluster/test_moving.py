"""A network moves from one machine into a cluster and back, with all that it keeps; also after a kill in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.cluster.moving.mark import KEY, STATE
from modvisor.supervisor.cluster.moving.moving import Moved, export_state, import_state
from modvisor.supervisor.config import NetworkConfig, parse_config
from modvisor.supervisor.journal import DeadLetter, StateDir, Whole, read_whole
from tests.conftest import until

from .conftest import Linked
from .networks import Nodes, config_of_node, nodes
from .servers import Servers

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

NOTES = """
    import asyncio
    from pathlib import Path
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Notes(BaseMod):
        def initialize(self):
            self.notes = []

        @mod_event_handler("note.add")
        async def add(self, event):
            if event.payload.get("wait") and not Path(self.config["gate"]).exists():
                await asyncio.sleep(3600)
            self.notes.append(event.payload["text"])
            await self.context.files.put("newest", event.payload["text"].encode())
            await self.context.checkpoint(self.get_state())
            return EventResponse(True, data={"notes": self.notes, "attempt": event.attempt})

        @mod_event_handler("note.newest")
        async def newest(self, event):
            return EventResponse(True, data=await self.context.files.get("newest"))

        def get_state(self):
            return {"notes": self.notes}

        def set_state(self, state, from_version):
            self.notes = state["notes"]
"""

LATE = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Late(BaseMod):
        @mod_event_handler("late.ping")
        async def ping(self, event):
            return EventResponse(True)
"""

LETTER = DeadLetter(
    None,
    "notes",
    Event("note.add", "agent:alice", "mod:notes", payload={"text": "x"}, event_id="dead").to_dict(),
    3,
    "crashed",
    "it died of it",
    {"why": "tested"},
    0.0,
)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file: while it is missing, one event is not answered."""
    return tmp_path / "gate"


@pytest.fixture
def mods(write_mod: WriteMod, gate: Path) -> list[dict[str, Any]]:
    entry = {"config": {"gate": str(gate)}, "durable": True, "limits": {"drain_timeout": 0.1}}
    return [{"path": write_mod("notes", NOTES), **entry}]


def alone(tmp_path: Path, mods: list[dict[str, Any]], name: str = "alone") -> AgentNetwork:
    """Return the network on one machine."""
    config = {"network": {"name": "one", "storage": str(tmp_path / name)}, "mods": mods, "agent_groups": GROUPS}
    return AgentNetwork.from_config(config, base_dir=tmp_path)


GROUPS = {"crew": {"password_hash": "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"}}


def clustered(servers: Servers, network_id: str, tmp_path: Path, mods: list[dict[str, Any]]) -> NetworkConfig:
    config = config_of_node(servers, network_id, tmp_path, "a", mods)
    return parse_config({**config, "agent_groups": GROUPS}, base_dir=tmp_path)


async def lived(network: AgentNetwork, write_mod: WriteMod) -> str:
    """Let a network have a life of which everything is kept, and stop it. Return the secret of agent alice."""
    await network.initialize()
    secret = (await network.register_agent("alice", metadata={"who": "Alice"})).data["secret"]
    await network.register_agent("bob")
    await join(network, "den", "bob", "alice")
    await network.register_agent("carol", group="crew")
    assert (await network.make_invite(group="crew")).success
    assert (await network.load_mod(write_mod("late", LATE), config={"public": True}, audience={"percent": 50})).success
    assert (await note(network, "first", "id-1")).data["notes"] == ["first"]
    waiting = asyncio.create_task(note(network, "second", "id-2", wait=True))
    journal = network._running().journal  # type: ignore[attr-defined]
    await until_pending(journal)
    await journal.bury(replace(LETTER, at=time.time()))
    await network.shutdown()
    await waiting
    return secret


async def join(network: AgentNetwork, channel: str, *agents: str) -> None:
    registry = network._running().agents  # type: ignore[attr-defined]
    for agent_id in agents:
        await registry.kept(lambda each=agent_id: registry.join(channel, each))


async def until_pending(journal: Any) -> None:
    while (await journal.pending_counts()).get("notes") != 1:
        await asyncio.sleep(0.005)


async def note(network: AgentNetwork, text: str, event_id: str, **payload: Any) -> EventResponse:
    event = Event("note.add", "agent:alice", "mod:notes", payload={"text": text, **payload}, event_id=event_id)
    return await network.process_event(event)


@pytest.fixture
async def moved(
    servers: Servers, network_id: str, tmp_path: Path, mods: list[dict[str, Any]], write_mod: WriteMod
) -> tuple[NetworkConfig, StateDir, str, Whole]:
    """A network at rest: its config with a cluster, its state, alice's secret, and all that it keeps."""
    secret = await lived(alone(tmp_path, mods), write_mod)
    state = StateDir(tmp_path / "alone")
    return clustered(servers, network_id, tmp_path, mods), state, secret, read_whole(state.database)


Kept = tuple[NetworkConfig, StateDir, str, Whole]


async def at(state: StateDir, move: Callable[..., Any], config: NetworkConfig, **how: Any) -> Moved:
    state.acquire()
    try:
        return await move(config, state, **how)
    finally:
        state.release()


async def test_a_state_that_goes_into_a_cluster_and_comes_back_is_the_same(moved: Kept, tmp_path: Path) -> None:
    config, state, _, before = moved
    assert len(before.events) == len(before.letters) == len(before.checkpoints) == len(before.answers) == 1
    told = await at(state, import_state, config)
    assert told.counts == {
        "agents": 3, "memberships": 2, "invites": 1, "mods": 1, "accepted events": 1, "answers": 1, "checkpoints": 1,
        "dead letters": 1,
        "files": 1,
    }  # fmt: skip
    assert not state.database.exists()
    back = StateDir(tmp_path / "back")
    assert (await at(back, export_state, config)).counts == told.counts
    after = read_whole(back.database)
    [late], [was] = after.mods, before.mods
    assert replace(late, position=was.position, loaded_at=was.loaded_at) == was
    assert after.snapshots == before.snapshots == {}  # of files, beside the journal
    assert {file.name: file.read_bytes() for file in back.snapshots.iterdir()} == {
        file.name: file.read_bytes() for file in state.snapshots.iterdir()
    }
    whole = {name: getattr(after, name) for name in Whole.__slots__ if name != "mods"}
    assert whole == {name: getattr(before, name) for name in Whole.__slots__ if name != "mods"}


async def test_a_cluster_serves_what_came_and_one_machine_what_came_back(
    moved: Kept, nodes: Nodes, mods: list[dict[str, Any]], tmp_path: Path, gate: Path
) -> None:
    config, state, secret, _ = moved
    await at(state, import_state, config)
    gate.touch()
    a, b = nodes("a", mods), nodes("b", mods)
    await asyncio.gather(a.initialize(), b.initialize())
    await serves_all(b, secret, attempt=2)
    with pytest.raises(ModvisorError, match="nodes of this network run: a, b; stop them first: modvisor stop --node a"):
        await at(StateDir(tmp_path / "back"), export_state, config)
    await b.poll_events("alice")
    await asyncio.gather(a.shutdown(), b.shutdown())
    back = StateDir(tmp_path / "back")
    await at(back, export_state, config)
    late_start = nodes("c", mods)
    with pytest.raises(ModvisorError, match=r"was moved to .*back.*run it there, without 'cluster'"):
        await late_start.initialize()
    again = alone(tmp_path, mods, "back")
    await again.initialize()
    await serves_all(again, secret, attempt=2)
    await again.shutdown()


async def serves_all(network: AgentNetwork, secret: str, attempt: int) -> None:
    await until(lambda: states(network) == {"notes": "ready", "late": "ready"}, 20)
    event = Event("chat.message", "agent:alice", "channel:den", payload={"text": "hello"}, secret=secret)
    assert (await network.process_external_event(event)).data["delivered"] == 1
    assert [each.payload["text"] for each in await network.poll_events("bob")] == ["hello"]
    assert network.describe_agent("carol")["group"] == "crew"
    assert (await note(network, "first", "id-1")).data == {"notes": ["first"], "attempt": 1}, "it was answered before"
    newest = await network.process_event(Event("note.newest", "agent:alice", "mod:notes", event_id=f"newest-{attempt}"))
    assert newest.data in (b"first", b"second"), "the event that waited may have been handled by now"
    second = await note(network, "second", "id-2", wait=True)
    assert second.data == {"notes": ["first", "second"], "attempt": attempt}
    [letter] = await network.dead_letters.list()
    assert (letter["mod_id"], letter["reason"]) == ("notes", "it died of it")
    assert network.get_audience("late").data["versions"][0]["audience"]["percent"] == 50


def states(network: AgentNetwork) -> dict[str, str]:
    return {mod_id: mod["state"] for mod_id, mod in network.get_loaded_mods().items()}


async def test_a_cluster_that_holds_something_is_not_overwritten(moved: Kept, linked: Linked, servers: Servers) -> None:
    config, state, _, before = moved
    link = await linked(servers, "x")
    bucket = await link.bucket("agents")
    await bucket.put("agent.eve", {**before.agents[0], "agent_id": "eve", "home": None})
    with pytest.raises(ModvisorError, match=r"holds something of this network already: 1 agents; .* --replace"):
        await at(state, import_state, config)
    assert (await at(state, import_state, config, replaces=True)).counts["agents"] == 3
    assert await bucket.get("agent.eve") is None


async def test_what_cannot_move_is_named_before_anything_moves(
    servers: Servers, network_id: str, moved: Kept, mods: list[dict[str, Any]], tmp_path: Path
) -> None:
    _, state, _, _ = moved
    everywhere = clustered(servers, network_id, tmp_path, [{**mods[0], "placement": {"copies": "all"}}])
    with pytest.raises(
        ModvisorError, match=r"1 accepted events are for mods that run on several nodes \(notes\).*--leave"
    ):
        await at(state, import_state, everywhere)
    assert state.database.exists()
    told = await at(state, import_state, everywhere, leaves=True)
    assert "accepted events" not in told.counts
    assert any("1 checkpoints are of mods that run on several nodes" in text for text in told.left)


@pytest.mark.slow
class TestTheCommand:
    """`modvisor cluster import` and `export`, as processes."""

    @pytest.fixture
    def file(self, servers: Servers, network_id: str, tmp_path: Path, mods: list[dict[str, Any]]) -> Path:
        config = config_of_node(servers, network_id, tmp_path, "a", mods)
        file = tmp_path / "network.yaml"
        file.write_text(json.dumps({**config, "agent_groups": GROUPS}))
        return file

    @staticmethod
    def run(file: Path, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "modvisor", "cluster", *words, "--file", str(file)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    async def ended(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        out, err = await asyncio.to_thread(process.communicate)
        return process.returncode, out + err

    async def test_an_import_that_is_killed_goes_on_when_it_is_given_again(
        self, moved: Kept, file: Path, nodes: Nodes, linked: Linked, servers: Servers, mods: list[dict[str, Any]]
    ) -> None:
        _, state, _, _ = moved
        await many_agents(state, 3000)
        told: asyncio.Queue[str] = asyncio.Queue()
        bucket = await (await linked(servers, "x")).bucket("agents")
        watch = await bucket.watch("agent.", lambda key, *_: told.put_nowait(key))
        process = self.run(file, "import", str(state.root))
        for _ in range(300):
            await told.get()
        os.kill(process.pid, 9)
        await self.ended(process)
        await watch.close()
        assert state.database.exists()
        with pytest.raises(
            ModvisorError, match=r"'modvisor cluster import' of .* has not ended: run that command again"
        ):
            await nodes("a", mods).initialize()
        code, said = await self.ended(self.run(file, "import", str(state.root)))
        assert code == 0, said
        assert "3003 agents" in said
        assert "not moved: operators' tokens" in said
        assert await (await (await linked(servers, "x")).bucket(STATE)).get(KEY) is None
        a = nodes("a", mods)
        await a.initialize()
        assert a.list_agents()[1] == 3003

    async def test_an_agent_is_forgotten_while_no_node_runs(
        self, moved: Kept, file: Path, nodes: Nodes, mods: list[dict[str, Any]]
    ) -> None:
        config, state, _, _ = moved
        await at(state, import_state, config)
        a = nodes("a", mods)
        await a.initialize()
        await a.shutdown()
        command = [sys.executable, "-m", "modvisor", "agent", "forget", "alice", "--node", "a", "--file", str(file)]
        code, said = await self.ended(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        assert code == 0, said
        for part in ("its registration", "1 memberships of channels", "1 dead letters", "remembered answers"):
            assert part in said
        again = nodes("a", mods)
        await again.initialize()
        assert again.list_agents("alice")[1] == 0

    async def test_an_export_tells_what_it_did(self, moved: Kept, file: Path, tmp_path: Path) -> None:
        _, state, _, _ = moved
        assert (await self.ended(self.run(file, "import", str(state.root))))[0] == 0
        code, said = await self.ended(self.run(file, "export", str(tmp_path / "back")))
        assert code == 0, said
        assert "was moved to" in said
        assert "1 accepted events" in said


async def many_agents(state: StateDir, count: int) -> None:
    import sqlite3

    with sqlite3.connect(state.database) as connection:
        connection.executemany(
            "INSERT INTO agent SELECT ?, secret_hash, agent_group, metadata, registered_at, guest, address, returned "
            "FROM agent WHERE agent_id = 'bob'",
            [(f"agent-{number}",) for number in range(count)],
        )
