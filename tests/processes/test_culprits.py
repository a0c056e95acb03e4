"""The event that killed its worker is known at once, also among slow ones: only that one is tried alone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.processes.test_events import load
from tests.processes.test_redelivery import FAST, traffic

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

# Every event takes its time; then the poison dies in the way that it names.
WORK = """
    @mod_event_handler("work.do")
    async def do(self, event):
        import ctypes, signal, threading
        how = event.payload.get("how", "")
        await asyncio.sleep(0.05 if how else self.config["slow"])

        def fault():
            ctypes.string_at(0)

        async def child():
            await asyncio.sleep(0.001)
            fault()

        match how:
            case "fault": fault()
            case "exit": os._exit(3)
            case "kills itself": os.kill(os.getpid(), signal.SIGKILL)
            case "child task": await asyncio.create_task(child())
            case "timer": asyncio.get_running_loop().call_later(0.001, fault)
            case "to_thread": await asyncio.to_thread(fault)
            case "thread": threading.Thread(target=fault).start()
            case "cycle of calls": asyncio.get_running_loop().call_soon(lambda: asyncio.create_task(child()))
        if how:
            await asyncio.sleep(9)
        return EventResponse(True, data=[event.payload["n"], event.attempt])

    @mod_event_handler("plain.do")
    def plain(self, event):
        import ctypes, time
        how = event.payload.get("how", "")
        time.sleep(0.05 if how else self.config["slow"])
        if how == "exit":
            os._exit(3)
        if how:
            ctypes.string_at(0)
        return EventResponse(True, data=[event.payload["n"], event.attempt])
"""


def send(network: AgentNetwork, name: str, n: int, **more: Any) -> asyncio.Task[Any]:
    event = Event(name, "agent:alice", payload={"n": n, **more}, event_id=f"{more.get('how', 'slow')}-{n}", timeout=20)
    return asyncio.create_task(network.process_event(event))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("work.do", "fault"),
        ("work.do", "child task"),
        ("plain.do", "fault"),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in [
                ("work.do", "exit"),
                ("work.do", "kills itself"),
                ("work.do", "timer"),
                ("work.do", "to_thread"),
                ("work.do", "thread"),
                ("work.do", "cycle of calls"),
                ("plain.do", "exit"),
            ]
        ),
    ],
)
async def test_the_event_whose_code_ran_is_blamed_and_no_other(
    network: AgentNetwork, write_mod: WriteMod, name: str, how: str
) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST, config={"slow": 0.2})
    others = [send(network, name, n) for n in range(9)]
    poison = await send(network, name, 99, how=how)
    assert (poison.error, poison.data["attempts"]) == ("dead_lettered", 2)
    assert [(await other).data for other in others] == [[n, 2] for n in range(9)]
    first, second = network.get_crashes("work")
    for report, alone, count in ((first, False, 10), (second, True, 1)):
        assert [event["event_id"] for event in report["running"]] == [f"{how}-99"]
        assert (report["alone"], report["in_flight_count"]) == (alone, count)


async def test_new_events_do_not_wait_for_a_crash_among_slow_ones(network: AgentNetwork, write_mod: WriteMod) -> None:
    slow = 0.5
    await load(network, write_mod, "work", WORK, restart=FAST, config={"slow": slow})
    loop = asyncio.get_running_loop()
    others = [send(network, "work.do", n) for n in range(50)]
    poison = send(network, "work.do", 99, how="fault")
    while not network.get_crashes("work"):
        await asyncio.sleep(0.01)
    began = loop.time()
    assert (await send(network, "work.do", 60)).data == [60, 1]
    assert loop.time() - began < 2 * slow
    assert [(await other).data for other in others] == [[n, 2] for n in range(50)]
    assert (await poison).error == "dead_lettered"
    assert traffic(network)["dead_lettered"] == 1


async def test_one_death_is_no_dead_letter_for_the_others_of_a_mod_with_one_attempt(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "work", WORK, restart=FAST, max_attempts=1, config={"slow": 0.2})
    others = [send(network, "work.do", n) for n in range(5)]
    assert (await send(network, "work.do", 99, how="exit")).error == "dead_lettered"
    assert [(await other).data for other in others] == [[n, 2] for n in range(5)]


@pytest.mark.parametrize("by", ["a background task", pytest.param("an observer", marks=pytest.mark.slow)])
async def test_what_belongs_to_no_event_in_flight_blames_none_of_them(
    network: AgentNetwork, write_mod: WriteMod, by: str
) -> None:
    await load(network, write_mod, "work", """
        async def activate(self):
            mark = self.context.storage_path / "crashed"
            if self.config["by"] == "a background task" and not mark.exists():
                self.task = asyncio.create_task(self.crash(mark))

        async def crash(self, mark):
            await asyncio.sleep(0.1)
            mark.touch()
            os.abort()

        @mod_event_handler("other.event", observe=True)
        async def observe(self, event):
            os.abort()

        @mod_event_handler("work.do")
        async def do(self, event):
            await asyncio.sleep(0.3)
            return EventResponse(True, data=[event.payload["n"], event.attempt])
    """, restart=FAST, max_attempts=1, config={"by": by})  # fmt: skip
    sent = [send(network, "work.do", n) for n in range(3)]
    if by == "an observer":
        await asyncio.sleep(0)
        await network.process_event(Event("other.event", "agent:alice"))
    assert [(await each).data for each in sent] == [[n, 2] for n in range(3)]
    [report] = network.get_crashes("work")
    assert (report["in_flight_count"], report["running"], report["alone"]) == (3, [], False)


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
async def test_a_process_that_a_mod_forks_marks_nothing_in_its_name(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", """
        @mod_event_handler("work.fork")
        async def forks(self, event):
            child = os.fork()
            if not child:
                os._exit(0)
            os.waitpid(child, 0)
            await asyncio.sleep(9)

        @mod_event_handler("work.die")
        async def die(self, event):
            os.abort()
    """, restart=FAST, max_attempts=1)  # fmt: skip
    forked = send(network, "work.fork", 1)
    await asyncio.sleep(0)
    assert (await send(network, "work.die", 2)).error == "dead_lettered"
    [report] = network.get_crashes("work")
    assert [event["event_name"] for event in report["running"]] == ["work.die"]
    forked.cancel()
