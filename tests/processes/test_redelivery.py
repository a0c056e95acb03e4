"""Events that were in flight when their mod died: tried again, the one that kills is found and kept as a dead letter."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until
from tests.processes.test_events import load, send

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

# Holds events until it is told to go on; dies of those that are poison. Every call is noted in a file, before anything happens.
WORK = """
    process = int.from_bytes(os.urandom(6), "big")

    def initialize(self):
        self.gate = asyncio.Event()

    def note(self, event):
        with open(self.context.storage_path / "calls", "a") as file:
            file.write(f"{event.payload['n']} {event.attempt} {self.process}\\n")

    @mod_event_handler("work.do")
    async def do(self, event):
        self.note(event)
        if event.attempt == 1 and not event.payload.get("at_once"):
            await self.gate.wait()
        if event.payload.get("poison"):
            os._exit(3)
        return EventResponse(True, data=[event.payload["n"], event.attempt])

    @mod_event_handler("work.open")
    async def open(self, event):
        self.gate.set()
        return EventResponse(True)
"""
FAST = {"first_delay": 0.01, "max_delay": 0.02}


def traffic(network: AgentNetwork, mod: str = "work") -> dict[str, Any]:
    return network.get_network_stats()["mods"][mod]["traffic"]


def calls(network: AgentNetwork, mod: str = "work") -> list[list[int]]:
    """[n, attempt, process] of every call of the handler, in order."""
    text = (network.state_dir.storage_of(mod) / "calls").read_text()
    return [[int(number) for number in line.split()] for line in text.splitlines()]


def start(network: AgentNetwork, n: int, **more: Any) -> asyncio.Task[Any]:
    event = Event("work.do", "agent:alice", payload={"n": n, **more}, event_id=f"e{n}")
    return asyncio.create_task(network.process_event(event))


async def in_flight(network: AgentNetwork, count: int) -> None:
    """So many events were sent, and the handler has begun with as many."""
    notes = network.state_dir.storage_of("work") / "calls"
    await until(lambda: traffic(network)["in_flight"] == count)
    await until(lambda: notes.exists() and notes.read_bytes().count(b"\n") >= count)


async def test_events_in_flight_are_tried_again_in_order(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST)
    tasks = [start(network, n) for n in range(8)]
    await in_flight(network, 8)
    os.kill(network.get_loaded_mods()["work"]["pid"], signal.SIGKILL)
    answers = await asyncio.gather(*tasks)
    assert [answer.data for answer in answers] == [[n, 2] for n in range(8)]
    second = [call[:2] for call in calls(network)[8:]]
    assert second == [[n, 2] for n in range(8)], "in the order in which they came"
    assert traffic(network)["redelivered"] == 8
    (report,) = network.get_crashes("work")
    assert (report["cause"], report["in_flight_count"], report["alone"]) == ("signal", 8, False)
    assert {event["attempt"] for event in report["in_flight"]} == {1}


async def test_the_event_that_kills_is_found_in_one_more_crash_and_not_blamed_on_its_neighbours(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST)
    tasks = [start(network, n, poison=n == 3) for n in range(8)]
    await in_flight(network, 8)
    await asyncio.gather(send(network, "work.open"), return_exceptions=True)
    answers = await asyncio.gather(*tasks)
    for n, answer in enumerate(answers):
        if n != 3:
            assert answer.success, answer
            assert answer.data[0] == n
    poison = answers[3]
    assert poison.error == "dead_lettered"
    assert poison.data["attempts"] == 2
    assert "exit code 3" in poison.message
    reports = network.get_crashes("work")
    assert [(report["detail"], report["alone"]) for report in reports] == [
        ("exit code 3", False),
        ("exit code 3", True),
    ]
    assert [event["event_id"] for event in reports[1]["in_flight"]] == ["e3"]

    (letter,) = await network.dead_letters.list()
    assert (letter["letter_id"], letter["mod_id"], letter["attempts"]) == (poison.data["dead_letter"], "work", 2)
    whole = await network.dead_letters.show(letter["letter_id"])
    assert whole["event"]["payload"] == {"n": 3, "poison": True}
    assert (whole["report"]["cause"], whole["report"]["alone"]) == ("exited", True)
    assert traffic(network)["dead_lettered"] == 1


async def test_events_that_come_meanwhile_wait_behind_those_under_suspicion(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    """Where no trial process may run beside."""
    await load(network, write_mod, "work", WORK, suspects="alone", restart={"first_delay": 0.2, "max_delay": 0.2})
    suspects = [start(network, n) for n in range(3)]
    await in_flight(network, 3)
    os.kill(network.get_loaded_mods()["work"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["work"]["state"] == "backoff")
    later = [start(network, n, at_once=True) for n in range(3, 6)]
    answers = await asyncio.gather(*suspects, *later)
    assert [answer.data for answer in answers] == [[0, 2], [1, 2], [2, 2], [3, 1], [4, 1], [5, 1]]
    assert [call[0] for call in calls(network)[3:]] == list(range(6))


async def test_a_crash_of_a_suspect_alone_is_not_held_against_the_mod(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    """One restart within the window is allowed: the first crash of a poisoned event counts, the second does not."""
    await load(network, write_mod, "work", WORK, restart={**FAST, "max_restarts": 1})
    assert (await start(network, 1, poison=True, at_once=True)).error == "dead_lettered"
    await until(lambda: network.get_loaded_mods()["work"]["state"] == "ready")
    assert [report["alone"] for report in network.get_crashes("work")] == [False, True]
    assert (await start(network, 2, poison=True, at_once=True)).error == "mod_crashed", (
        "this one counts, and is too many"
    )
    assert network.get_loaded_mods()["work"]["state"] == "quarantined"
    assert [report["alone"] for report in network.get_crashes("work")] == [False, True, False]


async def test_at_most_once_is_not_tried_again(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST, delivery="at_most_once")
    tasks = [start(network, n) for n in range(4)]
    await in_flight(network, 4)
    os.kill(network.get_loaded_mods()["work"]["pid"], signal.SIGKILL)
    assert {(await task).error for task in tasks} == {"mod_crashed"}
    assert len(calls(network)) == 4
    assert await network.dead_letters.list() == []


async def test_an_event_whose_sender_gave_up_is_not_tried_again(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", WORK, restart={"first_delay": 0.3, "max_delay": 0.3})
    given_up, kept = start(network, 0), start(network, 1)
    await in_flight(network, 2)
    os.kill(network.get_loaded_mods()["work"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["work"]["state"] == "backoff")
    given_up.cancel()
    assert (await kept).data == [1, 2]
    assert [call[0] for call in calls(network)[2:]] == [1]


async def test_a_suspect_past_its_deadline_fails_for_its_sender(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", WORK, restart={"first_delay": 5, "max_delay": 5})
    event = Event("work.do", "agent:alice", payload={"n": 1}, timeout=0.4)
    late = asyncio.create_task(network.process_event(event))
    await in_flight(network, 1)
    os.kill(network.get_loaded_mods()["work"]["pid"], signal.SIGKILL)
    assert (await late).error == "timeout"
    assert traffic(network)["queue_depth"] == 0


async def test_an_event_that_blocks_the_loop_is_a_suspect_too(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "spinner", """
        @mod_event_handler("spin.go")
        async def go(self, event):
            while True: pass
    """, restart=FAST, limits={"hang_timeout": 0.3})  # fmt: skip
    answer = await network.process_event(Event("spin.go", "agent:alice", timeout=20))
    assert answer.error == "dead_lettered"
    reports = network.get_crashes("spinner")
    assert [(report["cause"], report["alone"]) for report in reports] == [("hang", False), ("hang", True)]
    assert all("mods/spinner/mod.py" in report["traceback"] for report in reports)


async def test_quarantine_answers_what_died_and_what_comes_with_its_reason(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "work", WORK, restart={**FAST, "max_restarts": 0})
    suspects = [start(network, n) for n in range(2)]
    await in_flight(network, 2)
    os.kill(network.get_loaded_mods()["work"]["pid"], signal.SIGKILL)
    for task in suspects:
        answer = await task
        assert answer.error == "mod_crashed", "it may have done half of it"
        assert "quarantined" in answer.message
    later = await start(network, 3)
    assert later.error == "mod_away"
    assert "quarantined" in later.message


async def test_a_mod_that_is_unloaded_gives_up_what_it_did_not_finish(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "work", WORK, limits={"drain_timeout": 0.1})
    flying = start(network, 1)
    await in_flight(network, 1)
    assert (await network.unload_mod("work")).success
    assert (await flying).error == "mod_unloaded"
    assert await network.dead_letters.list() == []


async def test_a_dead_letter_is_replayed_when_the_mod_is_mended(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST)
    dead = await start(network, 7, poison=True, at_once=True)
    letter_id = dead.data["dead_letter"]
    await until(lambda: network.get_loaded_mods()["work"]["state"] == "ready")
    again = await network.dead_letters.replay(letter_id)
    assert again.error == "dead_lettered", "it still kills, and is a letter again"
    assert again.data["dead_letter"] != letter_id
    (letter,) = await network.dead_letters.list()
    assert letter["letter_id"] == again.data["dead_letter"]

    await network.unload_mod("work")
    assert (await network.dead_letters.replay(letter["letter_id"])).error == "no_such_mod"
    await load(network, write_mod, "work", WORK.replace("os._exit(3)", "pass"))
    mended = await network.dead_letters.replay(letter["letter_id"])
    assert mended.success
    assert mended.data == [7, 1]
    assert await network.dead_letters.list() == []


async def test_a_dead_letter_is_replayed_by_one_at_a_time(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST, max_attempts=1)
    dead = await start(network, 1, poison=True, at_once=True)
    await network.unload_mod("work")
    await load(network, write_mod, "work", WORK.replace("os._exit(3)", "await self.gate.wait()"))
    first = asyncio.create_task(network.dead_letters.replay(dead.data["dead_letter"]))
    await in_flight(network, 1)
    with pytest.raises(ModvisorError, match="is being replayed already") as caught:
        await network.dead_letters.replay(dead.data["dead_letter"])
    assert caught.value.code == "conflict"
    assert (await send(network, "work.open")).success
    assert (await first).data == [1, 1]


async def test_dead_letters_are_purged(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", WORK, restart={**FAST, "max_restarts": 100}, max_attempts=1)
    for n in range(3):
        assert (await start(network, n, poison=True, at_once=True)).error == "dead_lettered"
    first, *_ = [letter["letter_id"] for letter in await network.dead_letters.list()]
    assert await network.dead_letters.purge(letter_id=first) == 1
    assert await network.dead_letters.purge(mod_id="other") == 0
    assert await network.dead_letters.purge(older_than=3600.0) == 0
    assert await network.dead_letters.purge() == 2


async def test_a_mod_that_is_restarting_makes_its_events_wait_and_refuses_those_too_many(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "work", WORK, restart={"first_delay": 0.5, "max_delay": 0.5}, limits={"queue": 3})
    os.kill(network.get_loaded_mods()["work"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["work"]["state"] == "backoff")
    tasks = [start(network, n, at_once=True) for n in range(5)]
    answers = await asyncio.gather(*tasks)
    assert [answer.error for answer in answers] == [None, None, None, "overloaded", "overloaded"]
    assert answers[3].data["waiting"] == 3


async def test_waiting_events_are_bounded_by_their_size_too(network: AgentNetwork, write_mod: WriteMod) -> None:
    limits = {"queue_bytes": "1MB"}
    await load(network, write_mod, "work", WORK, restart={"first_delay": 0.5, "max_delay": 0.5}, limits=limits)
    os.kill(network.get_loaded_mods()["work"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["work"]["state"] == "backoff")
    tasks = [start(network, n, at_once=True, pad="x" * 400_000) for n in range(4)]
    answers = await asyncio.gather(*tasks)
    assert [answer.error for answer in answers] == [None, None, "overloaded", "overloaded"]
