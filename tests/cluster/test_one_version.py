"""All copies of a mod end on one version, whatever happens to them while a reloaded one is on probation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.lifecycle import Keeper
from tests.conftest import until

from .networks import Nodes, nodes
from .test_copies import COUNTING, KEYS, ask, copies_of, here, started

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

OLD = COUNTING.replace("self.version,", "self.version + self.config.get('word', ''),")
NEW = OLD.replace('version = "1"', 'version = "2"').replace(
    "self.count += 1", "self.count += 1; assert not event.payload.get('fall') or __import__('os')._exit(1)"
)


async def reloaded(nodes: Nodes, write_mod: WriteMod, word: str = "") -> tuple[AgentNetwork, AgentNetwork]:
    """Return two nodes whose copies 0, 1 and 2 run a new version on probation, two of them on the first node."""
    mods = copies_of(write_mod, source=OLD, probation=600, placement={"copies": 3})
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    await until(lambda: sorted([*here(a), *here(b)]) == [0, 1, 2])
    write_mod("wiki", NEW)
    done = await a.reload_mod("wiki", config={"word": word} if word else None)
    assert done.success, done
    assert await versions(a) == [f"2{word}"] * 3
    return (a, b) if len(here(a)) == 2 else (b, a)


async def versions(network: AgentNetwork) -> list[str]:
    answers = [await ask(network, key) for key in KEYS.values()]
    assert all(each.success for each in answers), answers
    return [each.data["version"] for each in answers]


def copies(network: AgentNetwork) -> list[Keeper]:
    mod = network._running().mods.get("wiki")
    assert mod is not None
    return [*mod.keepers]


async def until_all_run(network: AgentNetwork, version: str) -> None:
    async with asyncio.timeout(20):
        while await versions(network) != [version] * 3:
            await asyncio.sleep(0.01)


async def test_a_copy_whose_node_died_on_probation_follows_the_others_when_they_accept_the_version(
    nodes: Nodes, write_mod: WriteMod, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays, dies = await reloaded(nodes, write_mod)
    (moved,) = here(dies)
    cluster = dies._running().cluster
    assert cluster is not None
    first = cluster.session.id

    async def share_nothing(_unit: str) -> None:
        """As a node that is killed. One that has lost its session may accept the version at its end."""

    monkeypatch.setattr(cluster._snapshots, "_share", share_nothing)
    await (await cluster.link.bucket("nodes")).delete(dies.config.cluster.node if dies.config.cluster else "")
    await until(lambda: cluster.session.id not in (None, first))
    assert (await versions(stays))[moved] == "1", "nothing has proved the new version"
    for keeper in copies(stays):
        if keeper.probation is not None:
            await keeper.trial.end()  # as when its time is over
    await until_all_run(stays, "2")
    assert [each.probation for each in (*copies(stays), *copies(dies))] == [None] * 3


async def test_a_copy_that_moved_on_probation_goes_back_with_the_others_when_the_version_fails(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    stays, leaves = await reloaded(nodes, write_mod, "!")
    (moved,) = here(leaves)
    await leaves.shutdown()
    await until(lambda: here(stays) == {0, 1, 2})
    assert await versions(stays) == ["2!"] * 3, "its config goes along, too"
    fails = next(keeper for keeper in copies(stays) if keeper.probation is not None)
    event = Event("test.ping", "agent:a", "mod:wiki", payload={"key": KEYS[fails.config.replica or 0], "fall": True})
    await stays.process_event(event)
    await until_all_run(stays, "1")
    assert (await ask(stays, KEYS[moved])).data["count"] > 2, "it has kept its state"
    assert (await stays.reload_mod("wiki")).success
    assert await versions(stays) == ["2"] * 3


async def test_the_config_of_a_reload_that_failed_is_gone_in_a_copy_that_has_moved(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    """The code is the same, so it is the config alone that tells the copies apart."""
    mods = copies_of(write_mod, source=NEW, probation=600, placement={"copies": 3})
    a, b = nodes("a", mods), nodes("b", mods)
    await started(a, b)
    await until(lambda: sorted([*here(a), *here(b)]) == [0, 1, 2])
    assert (await a.reload_mod("wiki", config={"word": "!"})).success
    await b.shutdown()
    await until(lambda: here(a) == {0, 1, 2})
    assert await versions(a) == ["2!"] * 3
    fails = next(keeper for keeper in copies(a) if keeper.probation is not None)
    event = Event("test.ping", "agent:a", "mod:wiki", payload={"key": KEYS[fails.config.replica or 0], "fall": True})
    await a.process_event(event)
    await until_all_run(a, "2")
