"""The way of an event, whether the mods run on the node of the agents or on another one."""

from __future__ import annotations

import asyncio

import pytest

from modvisor.supervisor.config.mods.audience import position

from .pair import Pair

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


async def test_every_kind_of_answer(pair: Pair) -> None:
    (name,) = await pair.agents(1, group="crew")
    said = await pair.send("suite.answer.seen", "mod:answering", f"agent:{name}", i=1, raw=b"x", deep=[{"a": None}])
    assert said.data == {
        "source": f"agent:{name}", "group": "crew", "via": None, "hops": 0, "cause": None, "attempt": 1,
        "payload": {"i": 1, "raw": b"x", "deep": [{"a": None}]},
    }  # fmt: skip
    said = await pair.send("suite.answer.none", "mod:answering")
    assert (said.success, said.data) == (True, {"delivered": 0, "mod": "answering"}), said
    for kind, error in (("raise", "handler_error"), ("refuse", "bad_input")):
        said = await pair.send(f"suite.answer.{kind}", "mod:answering")
        assert (said.success, said.error) == (False, error), said
    assert (await pair.send("other.event", "mod:answering")).error == "unknown_event"
    assert (await pair.send("suite.answer.seen", "mod:nobody")).error == "no_such_mod"


async def test_past_its_deadline_an_event_fails_and_its_handler_is_cancelled(pair: Pair) -> None:
    said = await pair.send("suite.wait.begin", "mod:answering", n="late", timeout=0.05)
    assert said.error == "timeout"
    assert await _log(pair, "late") == ["begun", "cancelled"]


async def test_a_sender_that_gives_up_has_the_handler_cancelled(pair: Pair) -> None:
    asked = asyncio.create_task(pair.send("suite.wait.begin", "mod:answering", n="given up"))
    while await _log(pair, "given up", at_least=1) != ["begun"]:
        pass
    asked.cancel()
    assert await _log(pair, "given up") == ["begun", "cancelled"]


async def _log(pair: Pair, n: str, at_least: int = 2) -> list[str]:
    while True:
        log = (await pair.send("suite.wait.log", "mod:answering")).data
        if len(found := [what for what, number in log if number == n]) >= at_least:
            return found


async def test_a_retry_gets_the_first_answer(pair: Pair) -> None:
    both = await asyncio.gather(*(_counted(pair) for _ in range(2)))
    assert {both[0], both[1], await _counted(pair)} == {both[0]}
    assert await _log(pair, "once", at_least=1) == ["counted"]


async def _counted(pair: Pair) -> int:
    return (await pair.send("suite.count.up", "mod:answering", n="once", event_id="once")).data


async def test_a_payload_larger_than_a_message_passes_both_ways(pair: Pair) -> None:
    data = "x" * 1_500_000
    said = await pair.send("suite.large.echo", "mod:answering", data=data)
    assert (said.success, said.data["got"], said.data["back"] == data) == (True, len(data), True)


async def test_mods_that_ask_one_another_in_a_circle_wait_for_nobody(pair: Pair) -> None:
    async with asyncio.timeout(20):  # far below the event's own deadline; each mod handles one event at a time
        answers = await asyncio.gather(*(pair.send("chain.go", "mod:there", left=4) for _ in range(3)))
    expected = {"via": "mod:neighbour", "hops": 4, "cause": True, "source": "mod:neighbour"}
    assert [answer.data for answer in answers] == [expected] * 3, answers


async def test_a_loop_of_mods_is_cut(pair: Pair) -> None:
    assert (await pair.send("chain.loop", "mod:there")).error == "loop"


async def test_observers_and_notified_mods_hear_of_what_happens_at_each_node(pair: Pair) -> None:
    await pair.send("suite.answer.seen", "mod:answering", event_id="watched")
    names = await pair.agents(2)  # one at each node
    heard: dict[str, list[object]] = {}
    while "watched" not in heard.get("seen", []) or not {*names} <= {name for _, name in heard["told"]}:  # type: ignore[misc]
        heard = (await pair.send("watching.tell", "mod:watching")).data
    assert heard["seen"].count("watched") == 1
    for name in names:
        assert [what for what, who in heard["told"] if who == name] == ["register_agent"]  # type: ignore[misc]


async def test_events_of_a_key_are_handled_by_one_worker_in_their_order(pair: Pair) -> None:
    events = [(f"key{n % 7}", n) for n in range(70)]
    answers = await asyncio.gather(*(pair.send("keyed.work", "mod:keyed", key=key, n=n) for key, n in events))
    workers: dict[str, set[str]] = {}
    for (key, n), answer in zip(events, answers, strict=True):
        worker, log = answer.data
        workers.setdefault(key, set()).add(worker)
        mine = [number for number in log if number % 7 == n % 7]
        assert mine == list(range(n % 7, n + 1, 7)), "of this key, all before it, and none after it"
    assert all(len(those) == 1 for those in workers.values())
    assert len(set.union(*workers.values())) == 2


async def test_a_version_gets_its_share_of_the_agents_at_each_node_alike(pair: Pair) -> None:
    for percent in (30, 60):
        assert (await pair.b.set_audience("version@2", percent=percent)).success
        while [each["percent"] for each in _audiences(pair)] != [percent] * 2:
            await asyncio.sleep(0)
        for n in range(20):
            source = f"agent:s{n}"
            expected = "version@2" if position("version", source) < percent else "version@1"
            for node in (pair.a, pair.b):
                pair_there = Pair(node, pair.b, pair.home)
                assert (await pair_there.send("version.tell", "mod:version", source)).data == expected


def _audiences(pair: Pair) -> list[dict[str, float]]:
    shown = [node.get_audience("version").data["versions"] for node in (pair.a, pair.b)]
    return [next(each["audience"] for each in versions if each["mod_id"] == "version@2") for versions in shown]


async def test_a_durable_event_outlives_its_worker_and_is_a_dead_letter_at_last(pair: Pair) -> None:
    assert (await pair.send("durable.do", "mod:durable", n=1)).data == [1, 1]
    assert (await pair.send("durable.do", "mod:durable", n=2, kills=1)).data == [2, 2]
    assert (await pair.send("durable.do", "mod:durable", n=3, kills=2)).error == "dead_lettered"
    for node in (pair.a, pair.b):  # each node lists it, and may replay it; the other one hears of it a moment later
        while not (letters := await node.dead_letters.list()):
            await asyncio.sleep(0)
        (letter,) = letters
        assert (letter["mod_id"], letter["event"]["event_name"]) == ("durable", "durable.do")
    replayed = await pair.a.dead_letters.replay(letter["letter_id"])
    assert (replayed.success, replayed.data) == (True, [3, 1]), replayed
    for node in (pair.a, pair.b):
        while await node.dead_letters.list():
            await asyncio.sleep(0)


async def test_an_event_whose_worker_dies_is_tried_again_if_its_mod_says_so(pair: Pair) -> None:
    assert (await pair.send("again.do", "mod:again", n=1, kills=1)).data == [1, 2]
    failed = await pair.send("once.do", "mod:once", n=1, kills=1)
    assert not failed.success
    assert failed.error == "mod_crashed"
