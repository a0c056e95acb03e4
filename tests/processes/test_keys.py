"""A mod with `partition_by`: one event of a key at a time, in order, and other keys at once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from tests.conftest import until, worker_pids
from tests.processes.test_events import load, send

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

# Notes when each event begins and ends. An event stays in its handler until `go` releases it by its number.
KEYED = """
    def initialize(self):
        self.told, self.gates = [], {}

    @mod_event_handler("key.work")
    async def work(self, event):
        n = event.payload["n"]
        self.told.append(f"begin {n}")
        try:
            await self.gates.setdefault(n, asyncio.Event()).wait()
        finally:
            self.told.append(f"end {n}")
        return EventResponse(True, data=n)

    @mod_event_handler("key.go")
    async def go(self, event):
        for n in event.payload["which"]:
            self.gates.setdefault(n, asyncio.Event()).set()

        return EventResponse(True)

    @mod_event_handler("key.told")
    async def what_was_told(self, event):
        return EventResponse(True, data={"told": self.told})
"""
RESTART = {"first_delay": 0, "max_delay": 0, "max_restarts": 100}
Tasks = list[asyncio.Task[EventResponse]]


def work(network: AgentNetwork, *events: tuple[str, int], to: str = "mod:keyed") -> Tasks:
    """Send events of these keys and numbers, in this order."""
    return [asyncio.create_task(send(network, "key.work", to, key=key, n=n)) for key, n in events]


async def go(network: AgentNetwork, *which: int) -> None:
    # Control events have a key of their own, so they wait for none.
    assert (await send(network, "key.go", "mod:keyed", key="control", which=list(which))).success


async def told(network: AgentNetwork) -> list[str]:
    return (await send(network, "key.told", "mod:keyed", key="control")).data["told"]


async def until_told(network: AgentNetwork, *expected: str) -> None:
    async with asyncio.timeout(10):
        while await told(network) != list(expected):
            await asyncio.sleep(0.002)


async def test_one_event_of_a_key_at_a_time_and_other_keys_meanwhile(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "keyed", KEYED, partition_by="payload.key")
    sent = work(network, ("a", 1), ("a", 2), ("b", 3), ("a", 4))
    await until_told(network, "begin 1", "begin 3")
    await go(network, 4, 2, 1)
    await asyncio.gather(sent[0], sent[1], sent[3])
    await until_told(network, "begin 1", "begin 3", "end 1", "begin 2", "end 2", "begin 4", "end 4")
    await go(network, 3)
    assert (await sent[2]).data == 3


async def test_overlap_gives_no_order(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "keyed", KEYED, partition_by="payload.key", overlap=True)
    sent = work(network, ("a", 1), ("a", 2))
    await until_told(network, "begin 1", "begin 2")
    await go(network, 1, 2)
    await asyncio.gather(*sent)


async def test_without_a_key_nothing_is_ordered(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "keyed", KEYED)
    sent = work(network, ("a", 1), ("a", 2))
    await until_told(network, "begin 1", "begin 2")
    await go(network, 1, 2)
    await asyncio.gather(*sent)


async def test_each_of_several_workers_keeps_the_order_of_its_keys(network: AgentNetwork, write_mod: WriteMod) -> None:
    body = """
    def initialize(self):
        self.inside, self.order = {}, []

    @mod_event_handler("key.work")
    async def work(self, event):
        key, n = event.payload["key"], event.payload["n"]
        together = self.inside[key] = self.inside.get(key, 0) + 1
        for _ in range(n % 5):
            await asyncio.sleep(0)
        self.inside[key] -= 1
        return EventResponse(True, data={"together": together, "replica": self.context.replica})
    """
    await load(network, write_mod, "keyed", body, workers=3, partition_by="payload.key")
    done: dict[str, list[int]] = {}

    async def one(key: str, n: int) -> EventResponse:
        answer = await send(network, "key.work", "mod:keyed", key=key, n=n)
        done.setdefault(key, []).append(n)
        return answer

    keys = [f"k{n % 7}" for n in range(140)]
    answers = await asyncio.gather(*(one(key, n) for n, key in enumerate(keys)))
    assert {answer.data["together"] for answer in answers} == {1}
    assert {answer.data["replica"] for answer in answers} == {0, 1, 2}
    assert all(numbers == sorted(numbers) for numbers in done.values())


async def test_a_mod_that_asks_itself_with_the_key_that_it_holds(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "selfish", """
        @mod_event_handler("self.down")
        async def down(self, event):
            n = event.payload["n"]
            if n == 0:
                return EventResponse(True, data=0)
            deeper = Event("self.down", destination_id="mod:selfish", payload={"key": "a", "n": n - 1})
            return EventResponse(True, data=(await self.context.send_event(deeper)).data + 1)
    """, partition_by="payload.key")  # fmt: skip
    answers = await asyncio.gather(*(send(network, "self.down", "mod:selfish", key="a", n=n) for n in (5, 3, 4)))
    assert [answer.data for answer in answers] == [5, 3, 4]


async def test_two_mods_that_ask_each_other_with_one_key(network: AgentNetwork, write_mod: WriteMod) -> None:
    for name, other in (("ping", "pong"), ("pong", "ping")):
        await load(network, write_mod, name, f"""
            @mod_event_handler("{name}.down")
            async def down(self, event):
                n = event.payload["n"]
                if n == 0:
                    return EventResponse(True, data=0)
                deeper = Event("{other}.down", destination_id="mod:{other}", payload={{"key": "a", "n": n - 1}})
                return EventResponse(True, data=(await self.context.send_event(deeper)).data + 1)
        """, partition_by="payload.key")  # fmt: skip
    answers = await asyncio.gather(*(send(network, "ping.down", "mod:ping", key="a", n=n) for n in (4, 7)))
    assert [answer.data for answer in answers] == [4, 7]


async def test_an_event_that_is_asked_again_after_a_crash_keeps_its_turn(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    once = KEYED.replace("await self.gates", "event.attempt > 1 or n > 1 or await self.gates")
    await load(network, write_mod, "keyed", once, partition_by="payload.key", restart=RESTART, max_attempts=3)
    sent = work(network, ("a", 1), ("a", 2))
    await until_told(network, "begin 1")
    os.kill(network.get_loaded_mods()["keyed"]["pid"], signal.SIGKILL)
    assert [(await task).data for task in sent] == [1, 2]
    assert await told(network) == ["begin 1", "end 1", "begin 2", "end 2"]


async def test_the_turn_lasts_as_long_as_the_handler_though_its_sender_gave_up(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    """A handler that a cancellation does not end still works on the key."""
    stubborn = (
        KEYED.replace(
            "await self.gates.setdefault(n, asyncio.Event()).wait()",
            "await self.until_let_go(n)",
        )
        + """
    async def until_let_go(self, n):
        gate = self.gates.setdefault(n, asyncio.Event())
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                self.told.append(f"cancelled {n}")
    """
    )
    await load(network, write_mod, "keyed", stubborn, partition_by="payload.key")
    first, second = work(network, ("a", 1), ("a", 2))
    await until_told(network, "begin 1")
    first.cancel()
    await until_told(network, "begin 1", "cancelled 1")
    await go(network, 1, 2)
    assert (await second).data == 2
    assert await told(network) == ["begin 1", "cancelled 1", "end 1", "begin 2", "end 2"]


async def test_events_that_wait_for_a_turn_count_as_waiting(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "keyed", KEYED, partition_by="payload.key", limits={"queue": 2})
    sent = work(network, ("a", 1), ("a", 2), ("a", 3))
    await until(lambda: network.get_network_stats()["mods"]["keyed"]["traffic"]["queue_depth"] == 2)
    refused = await send(network, "key.work", "mod:keyed", key="a", n=4)
    assert refused.data["error"] == "overloaded"
    await go(network, 1, 2, 3)
    assert [(await task).data for task in sent] == [1, 2, 3]


async def test_an_event_whose_turn_does_not_come_in_time_says_so(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "keyed", KEYED, partition_by="payload.key")
    (first,) = work(network, ("a", 1))
    await until_told(network, "begin 1")
    late = Event("key.work", "agent:alice", "mod:keyed", payload={"key": "a", "n": 2}, timeout=0.05)
    answer = await network.process_event(late)
    assert answer.data["error"] == "timeout"
    assert "an earlier event with the same key" in (answer.message or "")
    await go(network, 1)
    assert (await first).success


async def test_the_order_survives_a_reload(network: AgentNetwork, write_mod: WriteMod, tmp_path: Path) -> None:
    """The first event is still handled while the new process waits to take over."""
    first_may_end = tmp_path / "first may end"
    waits = f"""
    async def until_it_may(self, event):
        while event.payload["n"] == 1 and not os.path.exists({str(first_may_end)!r}):
            await asyncio.sleep(0.002)
    """
    states = """
    def get_state(self):
        return self.told

    def set_state(self, state, from_version):
        self.told = state
    """
    body = KEYED.replace("await self.gates.setdefault(n, asyncio.Event()).wait()", "await self.until_it_may(event)")
    await load(network, write_mod, "keyed", body + states + waits, partition_by="payload.key")
    sent = work(network, *(("a", n) for n in range(1, 5)))
    await until_told(network, "begin 1")
    reload = asyncio.create_task(network.reload_mod("keyed"))
    await until(lambda: len(worker_pids()) == 2)
    first_may_end.touch()
    assert (await reload).success
    assert [(await task).data for task in sent] == [1, 2, 3, 4]
    whole = [f"{what} {n}" for n in range(1, 5) for what in ("begin", "end")]
    assert await told(network) == whole
