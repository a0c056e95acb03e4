"""What reaches agents at two nodes, whether the mods it passes run on the node of its sender or on another one."""

from __future__ import annotations

import asyncio

import pytest

from modvisor.supervisor import Event

from .pair import Pair

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


async def _join(pair: Pair, channel: str, *names: str) -> None:
    for name in names:
        member = {"channel": channel, "agent_id": name}
        assert (await pair.a.process_event(Event("system.add_channel_member", payload=member))).success


async def test_agents_channels_groups_and_all_get_what_a_mod_has_passed_on(pair: Pair) -> None:
    alice, bob, carol, dora = await pair.agents(4, group="guests")
    await _join(pair, "general", alice, bob, carol)
    everybody = len((await pair.a.process_event(Event("system.list_agents"))).data["agents"])
    for to, reached, who in (
        (f"agent:{bob}", 1, [bob]),
        (f"agent:{carol}", 1, [carol]),
        ("channel:general", 2, [bob, carol]),
        ("group:guests", 3, [bob, carol, dora]),
        ("agent:broadcast", everybody - 1, [bob, carol, dora]),
    ):
        said = await pair.send("suite.said.it", to, f"agent:{alice}", whom=to)
        assert (said.success, said.data) == (True, {"delivered": reached}), said
        got = [[{"whom": to, "seen": True}] if name in who else [] for name in (alice, bob, carol, dora)]
        assert await pair.taken(alice, bob, carol, dora) == got, to


async def test_what_a_mod_sends_reaches_agents_at_both_nodes(pair: Pair) -> None:
    alice, bob = await pair.agents(2)
    await _join(pair, "hall", alice, bob)
    said = await pair.send("suite.send.it", "mod:passing", f"agent:{alice}", whom="channel:hall")
    assert said.data == {"delivered": 2}, said
    assert await pair.taken(alice, bob) == [[{"by": "mod"}], [{"by": "mod"}]]


async def test_a_handler_that_raises_stops_no_delivery(pair: Pair) -> None:
    alice, bob = await pair.agents(2)
    said = await pair.send("suite.said.raise", f"agent:{bob}", f"agent:{alice}", n=1)
    assert (said.error, said.data["delivered"]) == ("handler_error", 1), said
    assert await pair.taken(bob) == [[{"n": 1}]]


async def test_an_absent_agent_is_named(pair: Pair) -> None:
    said = await pair.send("suite.said.it", "agent:nobody")
    assert (said.error, "nobody" in str(said.message)) == ("no_such_agent", True)


async def test_a_retry_of_a_delivered_event_reaches_nobody_twice(pair: Pair) -> None:
    alice, bob, carol = await pair.agents(3)
    await _join(pair, "den", alice, bob, carol)
    for _ in range(2):
        said = await pair.send("suite.said.it", "channel:den", f"agent:{alice}", event_id="said twice")
        assert said.data == {"delivered": 2}, said
    assert await pair.taken(bob, carol) == [[{"seen": True}], [{"seen": True}]]


async def test_events_of_a_source_reach_an_agent_in_their_order(pair: Pair) -> None:
    alice, bob, carol = await pair.agents(3)
    for receiver in (bob, carol):  # at node b, at node a
        answers = await asyncio.gather(
            *(pair.send("suite.said.it", f"agent:{receiver}", f"agent:{alice}", n=n) for n in range(40))
        )
        assert all(answer.success for answer in answers)
        assert [payload["n"] for payload in (await pair.taken(receiver))[0]] == list(range(40))
