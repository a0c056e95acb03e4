"""Random histories of agents on three nodes: each event reaches each agent once, and all nodes know the same in the end."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modvisor.ipc.errors import ModvisorError

from .nodes import Node, Present, same
from .servers import Servers

pytestmark = pytest.mark.timeout(120)

NAMES, CHANNELS = ("alice", "bob", "carol", "dave"), ("hall", "den")
NODES = st.integers(0, 2)

STEP = st.one_of(
    st.tuples(st.just("register"), NODES, st.sampled_from(NAMES)),
    st.tuples(st.just("unregister"), NODES, st.sampled_from(NAMES)),
    st.tuples(st.just("join"), NODES, st.sampled_from(NAMES), st.sampled_from(CHANNELS)),
    st.tuples(st.just("leave"), NODES, st.sampled_from(NAMES), st.sampled_from(CHANNELS)),
    st.tuples(st.just("move"), NODES, st.sampled_from(NAMES)),
    st.tuples(st.just("take"), NODES, st.sampled_from(NAMES)),
    st.tuples(st.just("send"), NODES, st.sampled_from([*NAMES, *CHANNELS, "all"])),
    st.tuples(st.just("again"), NODES),
)
HISTORY = st.lists(st.lists(STEP, min_size=1, max_size=4), max_size=12)  # the steps of a list happen at once

# What dave took at one node came again at the next one, out of the stream of inboxes.
TAKEN_BEFORE_A_MOVE: list[list[tuple[Any, ...]]] = [
    [("register", 0, "carol"), ("take", 2, "carol"), ("send", 2, "alice"), ("move", 0, "dave")],
    [("move", 2, "dave"), ("again", 2), ("again", 1), ("move", 1, "alice")],
    [("register", 1, "bob"), ("send", 0, "alice"), ("send", 1, "carol"), ("move", 2, "alice")],
    [("send", 0, "den"), ("register", 1, "alice")],
    [("again", 2)],
    [("register", 2, "dave")],
    [("again", 2), ("join", 2, "dave", "hall"), ("join", 0, "carol", "den"), ("send", 2, "dave")],
    [("move", 0, "dave")],
    [("again", 2)],
    [("take", 1, "bob"), ("again", 2), ("take", 1, "alice"), ("register", 2, "alice")],
    [("leave", 1, "carol", "den"), ("register", 2, "carol")],
]

# A node became the home again while the one between was still asking it for what the agent takes along.
TWICE_AT_ONCE: list[list[tuple[Any, ...]]] = [
    [("move", 2, "dave"), ("move", 0, "dave"), ("register", 1, "dave")],
    [("move", 2, "dave"), ("move", 0, "dave"), ("register", 1, "dave")],
    [("move", 0, "dave")],
]

_networks = itertools.count()


class World:
    """Three nodes, and what their agents have got.

    Attributes:
        got: what each owner of an id has taken out of its inbox, by id and time of registration.
        reached: for each event, how many inboxes were said to have taken it.
    """

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.got: dict[tuple[str, float], list[int]] = defaultdict(list)
        self.reached: dict[int, int] = defaultdict(int)
        self.sent: list[Any] = []
        self._numbers = itertools.count()

    async def do(self, step: tuple[Any, ...]) -> None:
        what, at, *more = step
        with suppress(ModvisorError):  # refused, and nothing has changed
            await getattr(self, what)(self.nodes[at], *more)

    async def register(self, node: Node, name: str) -> None:
        if node.agents.get(name) is None:
            await node.register(name)

    async def unregister(self, node: Node, name: str) -> None:
        await node.agents.kept(lambda: node.agents.unregister(name))

    async def join(self, node: Node, name: str, channel: str) -> None:
        await node.join(channel, name)

    async def leave(self, node: Node, name: str, channel: str) -> None:
        await node.agents.kept(lambda: node.agents.leave(channel, name))

    async def move(self, node: Node, name: str) -> None:
        if (agent := node.agents.get(name)) is not None:
            await node.agents.bring_home(agent)

    async def take(self, node: Node, name: str) -> None:
        if (agent := node.agents.get(name)) is not None:
            events = await node.agents.poll(agent, limit=2)
            self.got[name, agent.registered_at] += [event.payload["text"] for event in events]

    async def send(self, node: Node, to: str) -> None:
        kind = "agent" if to in NAMES else "channel"
        number = next(self._numbers)
        destination = "agent:broadcast" if to == "all" else f"{kind}:{to}"
        receipt = await node.send(destination, number, event_id=f"event{number}")
        self.reached[number] = receipt.reached
        assert not receipt.lost
        self.sent.append((number, destination))

    async def again(self, node: Node) -> None:
        """Send the newest event again, as a client does that heard no answer."""
        if self.sent:
            number, destination = self.sent[-1]
            await node.send(destination, number, event_id=f"event{number}")

    async def take_all(self) -> None:
        for node in self.nodes:
            for agent in list(node.agents):
                events = await node.agents.poll(agent)
                self.got[agent.agent_id, agent.registered_at] += [event.payload["text"] for event in events]


@pytest.mark.slow
@example(TAKEN_BEFORE_A_MOVE)
@example(TWICE_AT_ONCE)
@given(HISTORY)
@settings(
    max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
def test_each_event_reaches_each_agent_once_and_all_nodes_know_the_same(servers: Servers, history: Any) -> None:
    asyncio.run(_lived(servers, history))


def test_what_an_agent_took_before_a_move_does_not_come_again(servers: Servers) -> None:
    asyncio.run(_lived(servers, TAKEN_BEFORE_A_MOVE))


def test_two_nodes_that_bring_an_agent_again_and_again_agree_on_its_home(servers: Servers) -> None:
    for _ in range(3):
        asyncio.run(_lived(servers, TWICE_AT_ONCE))


async def _lived(servers: Servers, history: list[list[tuple[Any, ...]]]) -> None:
    present, network = Present(), f"history{next(_networks)}"
    nodes = [Node(servers, network, name, present) for name in "abc"]
    try:
        for node in nodes:
            await node.open()
        world = World(nodes)
        for steps in history:
            await asyncio.gather(*(world.do(step) for step in steps))
            await same(*nodes)
        _check_homes(nodes)
        await world.take_all()
        await same(*nodes)
        _check(world, history)
    finally:
        for node in nodes:
            if node.is_open:
                await node.close()


def _check_homes(nodes: list[Node]) -> None:
    """Nothing waits for an agent but at its home."""
    for node in nodes:
        for agent in node.agents:
            assert agent.home == node.name or node.waits(agent.agent_id) == []


def _check(world: World, history: list[list[tuple[Any, ...]]]) -> None:
    taken: dict[int, int] = defaultdict(int)
    for numbers in world.got.values():
        assert len(set(numbers)) == len(numbers), f"twice: {numbers}"
        for number in numbers:
            taken[number] += 1
    steps = [step[0] for together in history for step in together]
    if "unregister" not in steps and "again" not in steps:  # else some got it, and are gone, or joined since
        assert taken == {number: count for number, count in world.reached.items() if count}
