"""A swap for another id: what is kept of the old mod goes to the new one, once, and a dead node's swap is finished."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.messages import pack
from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.cluster.kept.batches import EVENTS_AT_ONCE
from modvisor.supervisor.cluster.kept.journal import ClusterJournal
from modvisor.supervisor.cluster.mods.desired import Desired
from modvisor.supervisor.journal import AnsweredBefore
from tests.conftest import until
from tests.journal.kept_contract import ANSWER, event

from .conftest import Linked
from .networks import Nodes, homes, nodes
from .servers import Servers
from .test_kept import journal_of

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

# -- what is kept


async def payloads(journal: ClusterJournal, mod_id: str) -> list[Any]:
    return [each.event.payload["n"] for each in await journal.pending(mod_id)]


async def given(journal: ClusterJournal, former: str, mod_id: str) -> None:
    await journal.open_for(former, mod_id)
    journal.hand_on(former, mod_id)


async def test_events_checkpoint_and_answers_go_to_the_successor(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1) as journal:
        numbers = [await journal.accept("old", event(n)) for n in range(4)]
        journal.answered(numbers[0], ANSWER)
        await journal.save_checkpoint("old", "1.0", {"pages": 7})
        await given(journal, "old", "new")
        journal.answered(numbers[1], ANSWER)  # by the successor, which has them at once
        assert await payloads(journal, "new") == [2, 3]
        await journal.handed_on("old", "new")
        for n in (0, 1):
            with pytest.raises(AnsweredBefore):
                await journal.accept("new", event(n))
        assert await journal.accept("new", event(2)) == numbers[2]
    async with journal_of(await linked(servers, "b"), tmp_path, 2) as later:
        assert (await payloads(later, "old"), await payloads(later, "new")) == ([], [2, 3])
        assert [each.attempt for each in await later.pending("new")] == [2, 2]
        checkpoint = await later.checkpoint("new")
        assert checkpoint is not None
        assert (checkpoint.version, checkpoint.state) == ("1.0", {"pages": 7})
        assert await later.checkpoint("old") is None
        with pytest.raises(AnsweredBefore) as before:
            await later.accept("new", event(0))
        assert before.value.answer == ANSWER


async def test_a_node_that_dies_before_the_swap_is_recorded_has_changed_nothing(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    async with journal_of(link := await linked(servers, "a"), tmp_path, 1) as journal:
        numbers = [await journal.accept("old", event(n)) for n in range(3)]
        await given(journal, "old", "new")
        journal.answered(numbers[0], pack(1))
        await link.close()
    async with journal_of(await linked(servers, "b"), tmp_path, 2) as later:
        assert (await payloads(later, "old"), await payloads(later, "new")) == ([0, 1, 2], [])
        await given(later, "old", "new")
        await later.handed_on("old", "new")
    async with journal_of(await linked(servers, "c"), tmp_path, 3) as last:
        assert (await payloads(last, "old"), await payloads(last, "new")) == ([], [0, 1, 2])


async def test_a_swap_that_failed_leaves_all_with_the_old_mod(servers: Servers, linked: Linked, tmp_path: Path) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1) as journal:
        numbers = [await journal.accept("old", event(n)) for n in range(3)]
        await given(journal, "old", "new")
        journal.hand_on("new", "old")
        await journal.not_handed_on("old", "new")
        journal.answered(numbers[0], ANSWER)
        assert await payloads(journal, "old") == [1, 2]
        await journal.accept("old", event(3))
    async with journal_of(await linked(servers, "b"), tmp_path, 2) as later:
        assert (await payloads(later, "old"), await payloads(later, "new")) == ([1, 2, 3], [])


async def test_a_swap_that_failed_behind_one_that_did_not_leaves_all_with_the_first_successor(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    async with journal_of(await linked(servers, "a"), tmp_path, 1) as journal:
        await journal.save_checkpoint("third", "0.1", "of a mod that ran before")
        await journal.save_checkpoint("old", "1.0", "state")
        await journal.accept("old", event(1))
        await given(journal, "old", "new")
        await journal.handed_on("old", "new")
        await given(journal, "new", "third")
        journal.hand_on("third", "new")
        await journal.save_checkpoint("other", "1", 1)  # what could be written down has been by then
        await journal.not_handed_on("new", "third")
        checkpoint = await journal.checkpoint("new")
        assert checkpoint is not None
        assert checkpoint.state == "state"
        assert await payloads(journal, "new") == [1]


@pytest.mark.slow
async def test_many_events_go_over_in_several_steps_and_each_once(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    count = 3 * EVENTS_AT_ONCE
    async with journal_of(
        await linked(servers, "a"), tmp_path, 1, durable_events=count + 9, durable_bytes=10**6
    ) as journal:
        await asyncio.gather(*(journal.accept("old", event(n)) for n in range(count)))
        accepts = asyncio.gather(*(journal.accept("old", event(count + n)) for n in range(5)))
        await given(journal, "old", "new")
        await accepts  # under way at the switch
        await journal.handed_on("old", "new")
    async with journal_of(await linked(servers, "b"), tmp_path, 2) as later:
        assert await payloads(later, "old") == []
        assert sorted(await payloads(later, "new")) == list(range(count + 5))


async def test_a_node_that_has_lost_the_successor_hands_nothing_on(
    servers: Servers, linked: Linked, tmp_path: Path
) -> None:
    async with (
        journal_of(await linked(servers, "a"), tmp_path, 1) as journal,
        journal_of(await linked(servers, "b"), tmp_path, 2) as other,
    ):
        await journal.accept("old", event(1))
        await given(journal, "old", "new")
        await other.open_for("new")
        with pytest.raises(Exception, match="another node has one of them by now"):
            await journal.handed_on("old", "new")
        assert await payloads(other, "new") == []
        assert await payloads(other, "old") == [1]


# -- over nodes

COUNTS = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Counts(BaseMod):
        def initialize(self):
            self.seen = []

        @mod_event_handler("work.do")
        async def do(self, event):
            self.seen.append(event.payload["n"])
            await self.context.checkpoint(self.get_state())
            return EventResponse(True, data=[self.context.mod_id, self.seen])

        def get_state(self):
            return {"seen": self.seen}

        def set_state(self, state, from_version):
            self.seen = state["seen"]
"""


async def do(network: AgentNetwork, n: int) -> EventResponse:
    return await network.process_event(Event("work.do", "agent:alice", event_id=f"work-{n}", payload={"n": n}))


async def test_a_durable_mod_is_swapped_for_another_id_from_any_node(nodes: Nodes, write_mod: WriteMod) -> None:
    placed = {"durable": True, "placement": {"on": ["a"]}}
    mods = [{"path": write_mod("old", COUNTS), **placed}]
    a, b = nodes("a", mods), nodes("b", mods)
    await asyncio.gather(a.initialize(), b.initialize())
    await until(lambda: b.get_loaded_mods()["old"]["state"] == "ready")
    assert (await do(a, 1)).data == ["old", [1]]
    under_way = [asyncio.create_task(do(network, n)) for n, network in enumerate([a, b] * 5, 10)]
    swapped = await b.swap_mod("old", write_mod("new", COUNTS), **placed)
    assert swapped.success, swapped
    answers = await asyncio.gather(*under_way)
    assert [answer for answer in answers if not answer.success] == []
    await until(lambda: homes(a) == homes(b) == {"new": "a"})
    last = await do(b, 2)
    assert last.data[0] == "new"
    assert sorted(last.data[1]) == [1, 2, *range(10, 20)], "its state went along, and each was handled once"
    again = await do(b, 1)  # the answer of the old mod
    assert again.data == ["old", [1]]
    assert (await a.swap_mod("new", write_mod("third", COUNTS), durable=True)).success


async def test_a_failed_swap_of_a_durable_mod_leaves_it_as_it_was(nodes: Nodes, write_mod: WriteMod) -> None:
    a = nodes("a", [{"path": write_mod("old", COUNTS), "durable": True}])
    await a.initialize()
    assert (await do(a, 1)).data == ["old", [1]]
    broken = write_mod("broken", "raise RuntimeError('no')")
    for _ in range(2):
        failed = await a.swap_mod("old", broken, durable=True)
        assert not failed.success
    assert (await do(a, 2)).data == ["old", [1, 2]]
    assert (await a.swap_mod("old", write_mod("new", COUNTS), durable=True)).success
    assert (await do(a, 3)).data == ["new", [1, 2, 3]]


async def test_a_swap_that_was_recorded_when_its_node_died_is_finished(
    nodes: Nodes, write_mod: WriteMod, linked: Linked, servers: Servers
) -> None:
    how = {"durable": True}
    mods = [{"path": write_mod("old", COUNTS), **how}]
    first = nodes("a", mods)
    await first.initialize()
    assert (await do(first, 1)).data == ["old", [1]]
    await first.shutdown()
    desired = Desired(await (await linked(servers, "tester")).bucket("mods"), "dead")
    args = {"path": write_mod("new", COUNTS), "mod_id": "new", "spec": how, "alias": False}
    command = await desired.order("old", "swap", args, lambda record: record.command is None)
    wanted = {"path": args["path"], "spec": args["spec"], "place_of": "old", "swapped_by": command.id}
    await desired.edit("new", lambda record: record.changed(**wanted))
    again = nodes("a", mods)
    await again.initialize()
    await until(lambda: homes(again) == {"new": "a"} and again.get_loaded_mods()["new"]["state"] == "ready")
    assert (await do(again, 2)).data == ["new", [1, 2]], "with the checkpoint of the old mod"
    assert (await do(again, 1)).data == ["old", [1]], "and its answers"
