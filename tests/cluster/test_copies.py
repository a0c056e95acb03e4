"""Copies of a mod: shared by key, claimed one by one, moved and commanded one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.partition import partition_of
from modvisor.supervisor import AgentNetwork, Event, EventResponse
from tests.conftest import until
from tests.processes.conftest import Marked, marked

from .networks import LEASE, NodeProcess, Nodes, config_of_node, nodes
from .servers import Servers

__all__ = ["marked", "nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

COUNTING = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Counting(BaseMod):
        version = "1"

        def initialize(self):
            self.count = 0

        @mod_event_handler("test.ping")
        async def ping(self, event):
            self.count += 1
            context = self.context
            return EventResponse(True, data={
                "count": self.count, "copy": context.replica, "token": context.fencing_token, "version": self.version,
            })

        def get_state(self):
            return {"count": self.count}

        def set_state(self, state, from_version):
            self.count = state["count"]
"""


def copies_of(write_mod: WriteMod, number: int = 3, source: str = COUNTING, **entry: Any) -> list[dict[str, Any]]:
    return [
        {"path": write_mod("wiki", source), "partition_by": "payload.key", "placement": {"copies": number}, **entry}
    ]


def serves(network: AgentNetwork, mod_id: str = "wiki") -> Callable[[], bool]:
    return lambda: network.get_loaded_mods().get(mod_id, {}).get("state") == "ready"


async def ask(network: AgentNetwork, key: str) -> EventResponse:
    return await network.process_event(Event("test.ping", "agent:alice", "mod:wiki", payload={"key": key}))


async def started(*networks: AgentNetwork) -> None:
    await asyncio.gather(*(network.initialize() for network in networks))
    for network in networks:
        await until(serves(network))


def here(network: AgentNetwork) -> set[int]:
    """Return the copies that a node runs."""
    mods = network.get_network_stats()["mods"]
    return {int(worker["mod_id"].partition("#")[2]) for worker in mods["wiki"].get("workers", ())}


KEYS = {part: next(key for key in map(str, range(99)) if partition_of(key, 3) == part) for part in range(3)}


async def test_each_copy_runs_on_one_node_and_gets_the_events_of_its_keys_from_every_node(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    mods = copies_of(write_mod)
    a, b, c = (nodes(name, mods) for name in "abc")
    await started(a, b, c)
    await until(lambda: sorted([*here(a), *here(b), *here(c)]) == [0, 1, 2])
    tokens: set[int] = set()
    for part, key in KEYS.items():
        answers = [await ask(network, key) for network in (a, b, c)]
        assert [(each.data["copy"], each.data["count"]) for each in answers] == [(part, 1), (part, 2), (part, 3)]
        tokens.add(answers[0].data["token"])
    assert len(tokens) == 3


async def test_the_copies_of_a_node_that_leaves_move_with_their_states_and_no_other_copy_does(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    mods = copies_of(write_mod)
    a, b, c = (nodes(name, mods) for name in "abc")
    await started(a, b, c)
    await until(lambda: sorted([*here(a), *here(b), *here(c)]) == [0, 1, 2])
    stays = {part: (await ask(a, KEYS[part])).data["token"] for part in [*here(a), *here(b)]}
    (moves,) = here(c)
    before = await ask(a, KEYS[moves])
    await c.shutdown()
    after = await ask(b, KEYS[moves])
    assert after.data["count"] == before.data["count"] + 1, "its state went along"
    assert after.data["token"] > before.data["token"]
    for part, token in stays.items():
        assert (await ask(a, KEYS[part])).data["token"] == token, "it was not disturbed"
    assert sorted([*here(a), *here(b)]) == [0, 1, 2]


async def test_a_reload_replaces_copy_by_copy_and_keeps_their_states(nodes: Nodes, write_mod: WriteMod) -> None:
    mods = copies_of(write_mod)
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    for key in KEYS.values():
        await ask(a, key)
    write_mod("wiki", COUNTING.replace('version = "1"', 'version = "2"'))
    done = await b.reload_mod("wiki")
    assert done.success, done
    assert (done.data["workers"], sorted(done.data["copies"])) == (3, ["wiki#0", "wiki#1", "wiki#2"])
    answers = [(await ask(a, key)).data for key in KEYS.values()]
    assert [(each["version"], each["count"]) for each in answers] == [("2", 2)] * 3


async def test_a_reload_that_fails_on_one_node_leaves_the_old_version_on_all(nodes: Nodes, write_mod: WriteMod) -> None:
    mods = copies_of(write_mod)
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    await until(lambda: sorted([*here(a), *here(b)]) == [0, 1, 2])
    fails = COUNTING.replace('version = "1"', 'version = "2"').replace(
        "self.count = 0", "self.count = 0; assert self.context.replica != 2"
    )
    write_mod("wiki", fails)
    failed = await a.reload_mod("wiki")
    assert not failed.success
    assert failed.data["copy"] == "wiki#2"
    assert "mod wiki was not reloaded" in str(failed.message)
    answers = [(await ask(b, key)).data for key in KEYS.values()]
    assert [(each["version"], each["count"]) for each in answers] == [("1", 1)] * 3


async def test_copies_are_loaded_restarted_and_unloaded_from_any_node(nodes: Nodes, write_mod: WriteMod) -> None:
    a, b = nodes("a", []), nodes("b", [])
    await asyncio.gather(a.initialize(), b.initialize())
    entry = copies_of(write_mod)[0]
    loaded = await b.load_mod(entry.pop("path"), mod_id="wiki", **entry)
    assert loaded.success, loaded
    assert sorted(loaded.data["copies"]) == ["wiki#0", "wiki#1", "wiki#2"]
    for network in (a, b):
        await until(serves(network))
    before = {part: (await ask(a, key)).data for part, key in KEYS.items()}
    restarted = await a.restart_mod("wiki")
    assert restarted.success, restarted
    for part, key in KEYS.items():
        after = (await ask(b, key)).data
        assert (after["copy"], after["token"], after["count"]) == (part, before[part]["token"], 2)
    other = await a.swap_mod("wiki", write_mod("other"), placement={"copies": 3})
    assert other.error == "conflict"
    unloaded = await a.unload_mod("wiki")
    assert unloaded.success, unloaded
    await until(lambda: not a.get_loaded_mods() and not b.get_loaded_mods())


async def test_a_load_of_which_one_copy_fails_leaves_none(nodes: Nodes, write_mod: WriteMod) -> None:
    a, b = nodes("a", []), nodes("b", [])
    await asyncio.gather(a.initialize(), b.initialize())
    source = COUNTING.replace("self.count = 0", "self.count = 0; assert self.context.replica != 1")
    (entry,) = copies_of(write_mod, source=source)
    failed = await a.load_mod(entry.pop("path"), mod_id="wiki", **entry)
    assert not failed.success
    assert failed.data["copy"] == "wiki#1"
    await until(lambda: not a.get_loaded_mods() and not b.get_loaded_mods())


WAITS = COUNTING.replace('version = "1"', 'version = "2"').replace(
    "def initialize(self):",
    """async def initialize(self):
            import asyncio, os
            while self.context.replica == 1 and not os.path.exists(self.config["go"]):
                await asyncio.sleep(0.005)""",
)


async def test_a_drain_waits_for_a_reload_that_holds_a_copy_and_two_drains_wait_for_the_same(
    nodes: Nodes, write_mod: WriteMod, tmp_path: Path
) -> None:
    mods = copies_of(write_mod, 2, config={"go": str(tmp_path / "go")}, sandbox="off")
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    await until(lambda: sorted([*here(a), *here(b)]) == [0, 1])
    first, other = (a, b) if here(a) == {0} else (b, a)
    write_mod("wiki", WAITS)
    reload = asyncio.create_task(other.reload_mod("wiki"))
    await until(lambda: first.get_loaded_mods()["wiki"].get("version") == "2")
    cluster = first._running().cluster
    assert cluster is not None
    drains = [asyncio.create_task(cluster.drain()) for _ in range(2)]
    node = first.config.cluster.node if first.config.cluster else ""
    await until(lambda: bool(other._running().cluster.session.nodes[node].value.get("draining")))
    assert not any(drain.done() for drain in drains)
    assert here(first) == {0}, "it would come back as the version before"
    (tmp_path / "go").touch()
    done = await reload
    assert done.success, done
    await asyncio.gather(*drains)
    assert here(first) == set()
    await until(lambda: here(other) == {0, 1})
    assert (await ask(other, KEYS[0])).data["version"] == "2"


HELD = """
    import asyncio, os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Held(BaseMod):
        @mod_event_handler("test.ping")
        async def ping(self, event):
            if event.payload["key"] == "die":
                os._exit(1)
            with open(self.context.storage_path / "calls", "a") as file:
                file.write(f"{event.payload['n']} {event.attempt} {self.context.fencing_token}\\n")
            await asyncio.sleep(3600 if "/c/" in str(self.context.storage_path) else 0)
            return EventResponse(True, data=event.payload["n"])
"""


def handled(folder: Path, part: int) -> list[tuple[str, int, int, int]]:
    """Return node, number, attempt and fencing token of each event that a copy began with."""
    found: list[tuple[str, int, int, int]] = []
    for node in "cab":
        for file in (folder / "state" / node).rglob("calls"):
            if file.parent.name == str(part) or file.parent.name.endswith(f"#{part}"):
                found += [(node, *map(int, line.split())) for line in file.read_text().splitlines()]
    return found


@pytest.mark.slow
async def test_the_accepted_events_of_a_copy_go_to_its_next_holder(
    nodes: Nodes, servers: Servers, network_id: str, write_mod: WriteMod, tmp_path: Path, marked: Marked
) -> None:
    mods = copies_of(write_mod, source=HELD, durable=True, delivery="at_least_once", max_attempts=2)
    a, b = nodes("a", mods), nodes("b", mods)
    c = NodeProcess(config_of_node(servers, network_id, tmp_path, "c", mods), tmp_path, marked.variable)
    try:
        await started(a, b)
        await until(lambda: len(here(a)) == len(here(b)) == 1 and serves(a)(), LEASE * 20)
        (theirs,) = {0, 1, 2} - here(a) - here(b)
        answers = await asyncio.gather(*(accepted(a, KEYS[part], n) for part in KEYS for n in (part, part + 3)))
        assert {each.error for each in answers} <= {None, "pending", "timeout"}, answers
        before = handled(tmp_path, theirs)
        assert {node for node, *_ in before} == {"c"}, c.log
        c.kill()
        await until(lambda: len([each for each in handled(tmp_path, theirs) if each[0] != "c"]) == 2, LEASE * 20)
    finally:
        c.kill()
    after = [each for each in handled(tmp_path, theirs) if each[0] != "c"]
    assert {n for _, n, _, _ in after} == {theirs, theirs + 3}
    assert all(attempt == 2 and token > before[0][3] for _, _, attempt, token in after)
    for part in {0, 1, 2} - {theirs}:
        assert [attempt for _, _, attempt, _ in handled(tmp_path, part)] == [1, 1], "it was not disturbed"


async def accepted(network: AgentNetwork, key: str, n: int) -> EventResponse:
    event = Event("test.ping", "agent:alice", "mod:wiki", payload={"key": key, "n": n})
    event.timeout = 1.0
    return await network.process_event(event)


async def test_a_dead_letter_of_a_copy_is_seen_and_replayed_from_another_node(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    mods = copies_of(write_mod, source=HELD, durable=True, delivery="at_least_once", max_attempts=1)
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    died = await accepted(a, "die", 1)
    assert died.error == "dead_lettered", died
    for network in (b, a):
        await until_listed(network)
        (letter,) = await network.dead_letters.list()
        assert letter["mod_id"] == "wiki"
        assert (await network.dead_letters.replay(letter["letter_id"])).error == "dead_lettered"


async def until_listed(network: AgentNetwork) -> None:
    """Wait until a node has one dead letter: that of a replay takes the place of the one before."""
    async with asyncio.timeout(10):
        while len(await network.dead_letters.list()) != 1:
            await asyncio.sleep(0.01)
