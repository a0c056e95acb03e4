"""What outlives the supervisor: accepted events, loaded mods, quarantines, checkpoints."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.lifecycle import reload
from tests.conftest import ECHO, until
from tests.processes.test_events import HEAD, load
from tests.processes.test_redelivery import FAST, WORK, calls, in_flight, start, traffic

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]
MakeNetwork = Callable[..., AgentNetwork]

COUNTER = """
    def initialize(self):
        self.count = 0

    def get_state(self):
        return {"count": self.count}

    def set_state(self, state, from_version):
        self.count = state["count"]
        if self.count < 0:
            raise ValueError("a count below zero")

    @mod_event_handler("count.up")
    async def up(self, event):
        self.count += 1
        if event.payload.get("keep"):
            await self.context.checkpoint(self.get_state())
        return EventResponse(True, data=self.count)

    @mod_event_handler("count.set")
    async def set(self, event):
        await self.context.checkpoint({"count": event.payload["to"]})
        return EventResponse(True)

    @mod_event_handler("count.huge")
    async def huge(self, event):
        try:
            await self.context.checkpoint(bytes(event.payload["size"]))
        except Exception as error:
            return EventResponse(False, str(error), {"error": error.code})
        return EventResponse(True)
"""


async def late_answers(network: AgentNetwork, agent: str, count: int) -> list[dict[str, Any]]:
    found: list[Event] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += await network.poll_events(agent, wait=5)
    assert {event.event_name for event in found} == {"system.notification.late_answer"}
    return [event.payload for event in found]


# -- durable events


async def test_a_durable_event_is_answered_like_any_other(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", WORK, durable=True)
    answers = await asyncio.gather(*(start(network, n, at_once=True) for n in range(50)))
    assert [answer.data for answer in answers] == [[n, 1] for n in range(50)]
    await until(lambda: network.get_network_stats()["journal"]["durable_events"] == 0)


async def test_a_durable_event_outlives_the_patience_of_its_sender(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", WORK, durable=True, restart={"first_delay": 0.5, "max_delay": 0.5})
    await network.register_agent("alice")
    os.kill(network.get_loaded_mods()["work"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["work"]["state"] == "backoff")
    event = Event("work.do", "agent:alice", payload={"n": 1, "at_once": True}, timeout=0.05, event_id="e1")
    pending = await network.process_event(event)
    assert pending.error == "pending"
    assert "inbox" in pending.message
    (answer,) = await late_answers(network, "alice", 1)
    assert (answer["event_id"], answer["success"], answer["data"]) == ("e1", True, [1, 1])
    again = await network.process_event(Event("work.do", "agent:alice", payload={"n": 1}, event_id="e1"))
    assert again.data == [1, 1], "a retry gets the answer that came late"
    assert len(calls(network)) == 1


async def test_a_retry_joins_the_event_that_is_kept(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "work", WORK, durable=True)

    def send(timeout: float) -> asyncio.Task[EventResponse]:
        event = Event("work.do", "agent:alice", payload={"n": 1}, event_id="same", timeout=timeout)
        return asyncio.create_task(network.process_event(event))

    assert (await send(0.05)).error == "pending"
    retry = send(10)
    await in_flight(network, 1)
    await network.process_event(Event("work.open", "agent:alice", "mod:work"))
    assert (await retry).data == [1, 1]
    assert len(calls(network)) == 1


@pytest.mark.parametrize("by", ["unload", "shutdown"])
async def test_what_was_accepted_is_handled_when_the_mod_is_back(
    make_network: MakeNetwork, write_mod: WriteMod, by: str
) -> None:
    network = make_network()
    await network.initialize()
    await network.register_agent("alice")
    settings = {"durable": True, "limits": {"drain_timeout": 0.05, "concurrency": 2}}
    await load(network, write_mod, "work", WORK, **settings)
    tasks = [start(network, n) for n in range(5)]
    await until(lambda: traffic(network)["in_flight"] == 2 and traffic(network)["queue_depth"] == 3)
    if by == "unload":
        assert (await network.unload_mod("work")).success
        assert {(await task).error for task in tasks} == {"pending"}
        await load(network, write_mod, "work", WORK.replace("event.attempt == 1", "False"), **settings)
    else:
        await network.shutdown()
        assert {(await task).error for task in tasks} == {"pending"}
        write_mod("work", HEAD + WORK.replace("event.attempt == 1", "False").replace("\n", "\n    "))
        await network.initialize()
    answers = await late_answers(network, "alice", 5)
    assert sorted(answer["data"][0] for answer in answers) == list(range(5))
    assert [call[0] for call in calls(network)[2:]] == list(range(5)), "in the order of their acceptance"
    await until(lambda: network.get_network_stats()["journal"]["durable_events"] == 0)


async def test_an_event_that_a_durable_mod_passes_on_goes_on_late(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "first", """
        @mod_event_handler("chat.say")
        async def say(self, event):
            event.payload["seen"] = ["first"]
            return event
    """, durable=True, restart={"first_delay": 0.3, "max_delay": 0.3})  # fmt: skip
    await load(network, write_mod, "second", """
        @mod_event_handler("chat.say")
        async def say(self, event):
            event.payload["seen"].append("second")
            return event
    """)  # fmt: skip
    for agent in ("alice", "bob"):
        await network.register_agent(agent)
    os.kill(network.get_loaded_mods()["first"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["first"]["state"] == "backoff")
    assert (await network.process_event(Event("chat.say", "alice", "bob", timeout=0.05))).error == "pending"
    (received,) = await network.poll_events("bob", wait=10)
    assert received.payload == {"seen": ["first", "second"]}
    (told,) = await late_answers(network, "alice", 1)
    assert told["data"] == {"delivered": 1}


async def test_a_poisoned_durable_event_is_a_dead_letter_and_not_kept_twice(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "work", WORK, durable=True, restart=FAST)
    assert (await start(network, 1, poison=True, at_once=True)).error == "dead_lettered"
    stats = network.get_network_stats()["journal"]
    assert (stats["durable_events"], stats["dead_letters"]) == (0, 1)


async def test_a_durable_mod_that_asks_itself_does_not_wait_for_itself(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "nested", """
        @mod_event_handler("nested.outer")
        async def outer(self, event):
            return await self.context.send_event(Event("nested.inner", "agent:x", "mod:nested"))

        @mod_event_handler("nested.inner")
        async def inner(self, event):
            return EventResponse(True, data="inner")
    """, durable=True, speak_for=["agent:x"], limits={"concurrency": 1})  # fmt: skip
    answer = await network.process_event(Event("nested.outer", "agent:alice", timeout=5))
    assert answer.data == "inner", answer


async def test_accepted_events_are_bounded(make_network: MakeNetwork, write_mod: WriteMod) -> None:
    network = make_network(journal={"durable_events": 3})
    await network.initialize()
    await load(network, write_mod, "work", WORK, durable=True)
    tasks = [start(network, n) for n in range(4)]
    refused = await tasks[3]
    assert (refused.error, refused.data["mod"]) == ("storage_full", "work")
    await network.process_event(Event("work.open", "agent:alice", "mod:work"))
    assert not tasks[0].done() or (await tasks[0]).success
    for task in tasks:
        task.cancel()


async def test_an_answered_event_that_is_sent_again_after_a_restart_is_not_handled_twice(
    make_network: MakeNetwork, write_mod: WriteMod
) -> None:
    network = make_network()
    await network.initialize()
    await load(network, write_mod, "work", WORK, durable=True)
    first = [await start(network, n, at_once=True) for n in range(10)]
    await network.shutdown()
    await network.initialize()
    again = [await start(network, n, at_once=True) for n in range(10)]
    assert [answer.data for answer in again] == [answer.data for answer in first] == [[n, 1] for n in range(10)]
    assert len(calls(network)) == 10
    assert network.get_network_stats()["journal"]["durable_events"] == 0


async def test_a_durable_event_that_failed_is_handled_when_it_is_sent_again(
    make_network: MakeNetwork, write_mod: WriteMod
) -> None:
    network = make_network()
    await network.initialize()
    await load(network, write_mod, "work", WORK, durable=True, restart=FAST, max_attempts=1)
    assert (await start(network, 1, at_once=True, poison=True)).error == "dead_lettered"
    await network.shutdown()
    await network.initialize()
    assert (await start(network, 1, at_once=True)).data == [1, 1]


# -- mods and quarantines


async def test_mods_loaded_while_it_ran_come_back_in_their_order(
    make_network: MakeNetwork, write_mod: WriteMod
) -> None:
    network = make_network(mods=[write_mod("listed")])
    await network.initialize()
    for name in ("b", "a"):
        write_mod(name)
        assert (await network.load_mod(f"./{name}", config={"x": name}, limits={"concurrency": 3})).success
    write_mod("gone")
    assert (await network.load_mod("./gone")).success
    assert (await network.unload_mod("gone")).success
    await network.shutdown()

    await network.initialize()
    assert list(network.get_loaded_mods()) == ["listed", "b", "a"]
    assert {mod["state"] for mod in network.get_loaded_mods().values()} == {"ready"}
    await network.shutdown()
    await network.initialize(fresh=True)
    assert list(network.get_loaded_mods()) == ["listed"]
    await network.shutdown()
    await network.initialize()
    assert list(network.get_loaded_mods()) == ["listed"], "forgotten for good"


async def test_a_mod_that_no_longer_loads_stays_with_its_reason(make_network: MakeNetwork, write_mod: WriteMod) -> None:
    network = make_network()
    await network.initialize()
    await network.load_mod(write_mod("echo"))
    await network.shutdown()
    write_mod("echo", "def broken(")
    await network.initialize()
    assert network.get_loaded_mods()["echo"]["state"] == "failed"
    assert "SyntaxError" in network.get_network_stats()["mods"]["echo"]["last_error"]
    write_mod("echo")
    assert (await network.reload_mod("echo")).success


async def test_a_quarantine_outlives_the_supervisor(make_network: MakeNetwork, write_mod: WriteMod) -> None:
    restart = {**FAST, "max_restarts": 0}
    network = make_network(mods=[{"path": write_mod("echo"), "restart": restart}])
    await network.initialize()
    os.kill(network.get_loaded_mods()["echo"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["echo"]["state"] == "quarantined")
    await network.shutdown()

    await network.initialize()
    mod = network.get_network_stats()["mods"]["echo"]
    assert (mod["state"], mod["pid"]) == ("quarantined", None)
    assert "SIGKILL" in mod["last_error"]
    refused = await network.process_event(Event("test.ping", "agent:alice", "mod:echo"))
    assert (refused.error, "quarantined" in refused.message) == ("mod_away", True)
    assert (await network.restart_mod("echo")).success
    await network.shutdown()
    await network.initialize()
    assert network.get_loaded_mods()["echo"]["state"] == "ready"


@pytest.mark.parametrize("change", ["fresh", "entry"])
async def test_a_quarantine_ends_when_it_is_asked_for(
    make_network: MakeNetwork, write_mod: WriteMod, change: str
) -> None:
    entry = {"path": write_mod("echo"), "restart": {**FAST, "max_restarts": 0}}
    network = make_network(mods=[entry])
    await network.initialize()
    os.kill(network.get_loaded_mods()["echo"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["echo"]["state"] == "quarantined")
    await network.shutdown()
    if change == "entry":
        network = make_network(mods=[{**entry, "config": {"mended": True}}])
    await network.initialize(fresh=change == "fresh")
    assert network.get_loaded_mods()["echo"]["state"] == "ready"


async def test_a_probe_brings_a_quarantined_mod_back(network: AgentNetwork, write_mod: WriteMod) -> None:
    restart = {**FAST, "max_restarts": 0, "probe_after": 0.2}
    loaded = await network.load_mod(write_mod("echo"), restart=restart)
    os.kill(loaded.data["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["echo"]["state"] == "quarantined")
    await until(lambda: network.get_loaded_mods()["echo"]["state"] == "ready")
    os.kill(network.get_loaded_mods()["echo"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["echo"]["state"] == "quarantined"), "one more failure is enough"


# -- checkpoints


async def count(network: AgentNetwork, **payload: Any) -> int:
    answer = await network.process_event(Event("count.up", "agent:alice", "mod:counter", payload=payload))
    assert answer.success, answer
    return answer.data


async def test_the_next_incarnation_gets_the_newest_checkpoint(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "counter", COUNTER, restart=FAST)
    assert [await count(network, keep=n == 1) for n in range(3)] == [1, 2, 3]
    os.kill(network.get_loaded_mods()["counter"]["pid"], signal.SIGKILL)
    assert await count(network) == 3, "the checkpoint was of two"
    assert (await network.reload_mod("counter")).success
    os.kill(network.get_loaded_mods()["counter"]["pid"], signal.SIGKILL)
    assert await count(network) == 4, "what a reload hands over is a checkpoint as well"


async def test_checkpoints_are_made_by_themselves(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "counter", COUNTER, restart=FAST, checkpoint_every=0.05)
    for _ in range(3):
        await count(network)

    async def kept() -> Any:
        checkpoint = await network._parts.journal.checkpoint("counter")
        return checkpoint and checkpoint.state["count"]

    async with asyncio.timeout(10):
        while await kept() != 3:
            await asyncio.sleep(0.01)
    os.kill(network.get_loaded_mods()["counter"]["pid"], signal.SIGKILL)
    assert await count(network) == 4


async def test_a_network_that_ends_keeps_the_state_and_an_unload_forgets_it(
    make_network: MakeNetwork, write_mod: WriteMod
) -> None:
    network = make_network()
    await network.initialize()
    await load(network, write_mod, "counter", COUNTER, checkpoint_every=3600)
    assert await count(network) == 1
    await network.shutdown()
    await network.initialize()
    assert await count(network) == 2
    await network.unload_mod("counter")
    await load(network, write_mod, "counter", COUNTER)
    assert await count(network) == 1


OWN = """
    count = 0

    async def initialize(self):
        if self.config.get("in") == "initialize":
            await self.context.checkpoint(-1)

    async def activate(self):
        self.gate = asyncio.Event()
        if self.config.get("in") == "activate":
            await self.context.checkpoint(self.count)

    def set_state(self, state, from_version):
        self.count = state + 1

    @mod_event_handler("own.keep")
    async def keep(self, event):
        if event.payload.get("wait"):
            await self.context.send_event(Event("test.ping"))  # it has begun
            await asyncio.sleep(0.1)
        await self.context.checkpoint(event.payload["count"])
        return EventResponse(True)

    @mod_event_handler("own.count")
    async def told(self, event):
        return EventResponse(True, data=self.count)
"""


async def own(network: AgentNetwork, what: str = "count", **payload: Any) -> Any:
    answer = await network.process_event(Event(f"own.{what}", "agent:alice", payload=payload))
    assert answer.success, answer
    return answer.data


@pytest.mark.parametrize("by", ["kill", "reload", "restart", "shutdown", "swap"])
async def test_a_mod_that_keeps_its_checkpoints_itself_gets_them_back(
    make_network: MakeNetwork, write_mod: WriteMod, by: str
) -> None:
    """One without get_state."""
    network = make_network()
    await network.initialize()
    await load(network, write_mod, "own", OWN, restart=FAST)
    await own(network, "keep", count=10)
    for count in (11, 11):
        if by == "kill":
            os.kill(network.get_loaded_mods()["own"]["pid"], signal.SIGKILL)
        elif by == "shutdown":
            await network.shutdown()
            await network.initialize()
        elif by == "swap":
            mod = next(iter(network.get_loaded_mods()))
            swapped = await network.swap_mod(mod, "./own", mod_id="other" if mod == "own" else "own")
            assert swapped.success, swapped
        else:
            assert (await (network.reload_mod if by == "reload" else network.restart_mod)("own")).success
        assert await own(network) == count


async def test_a_checkpoint_that_is_made_while_the_network_ends_is_kept(
    make_network: MakeNetwork, write_mod: WriteMod
) -> None:
    network = make_network()
    await network.initialize()
    await load(network, write_mod, "own", OWN, restart=FAST)
    await network.load_mod(write_mod("echo"))
    with network.tap() as begun:
        last = asyncio.create_task(network.process_event(Event("own.keep", payload={"count": 20, "wait": True})))
        await begun.get()
        await network.shutdown()
    assert (await last).success
    await network.initialize()
    assert await own(network) == 21


async def test_a_checkpoint_in_activate_is_one_and_in_initialize_an_error(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "own", OWN, restart=FAST, config={"in": "activate"})
    for count in (1, 2):
        os.kill(network.get_loaded_mods()["own"]["pid"], signal.SIGKILL)
        assert await own(network) == count
    assert (await network.reload_mod("own")).success
    await until_kept(network, "own", 3)
    os.kill(network.get_loaded_mods()["own"]["pid"], signal.SIGKILL)
    assert await own(network) == 4, "the reload has given it 3, and that was kept"
    refused = await network.reload_mod("own", config={"in": "initialize"})
    assert refused.error == "initialize_failed"
    assert "does not serve yet" in str(refused.message)


async def test_what_a_reload_hands_over_does_not_overtake_a_later_checkpoint(
    network: AgentNetwork, write_mod: WriteMod, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load(network, write_mod, "counter", COUNTER, restart=FAST)
    await count(network, keep=True)
    take_over, later = reload._take_over, []

    async def take_over_slowly(*how: Any, **more: Any) -> Any:
        later.append(asyncio.create_task(count(network, keep=True)))
        superseded = await take_over(*how, **more)
        await later[0]
        return superseded

    monkeypatch.setattr(reload, "_take_over", take_over_slowly)
    assert (await network.reload_mod("counter")).success
    await until_kept(network, "counter", {"count": 2})


async def until_kept(network: AgentNetwork, mod_id: str, state: Any) -> None:
    """The journal is asked last: what was to be kept before is kept by then."""
    async with asyncio.timeout(5):
        while (checkpoint := await network._running().journal.checkpoint(mod_id)) is None or checkpoint.state != state:
            await asyncio.sleep(0.01)


async def test_what_was_accepted_is_handled_by_the_mod_that_takes_the_place(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await network.register_agent("alice")
    await load(network, write_mod, "work", WORK, durable=True, restart={**FAST, "max_restarts": 0})
    flying = start(network, 1)
    await in_flight(network, 1)
    os.kill(network.get_loaded_mods()["work"]["pid"], signal.SIGKILL)
    assert (await flying).error == "pending"
    swapped = await network.swap_mod("work", "./work", mod_id="other", durable=True)
    assert swapped.success, swapped
    (answer,) = await late_answers(network, "alice", 1)
    assert (answer["event_id"], answer["success"]) == ("e1", True)
    await network.shutdown()
    await network.initialize()
    assert network.get_loaded_mods()["other"]["state"] == "ready"
    assert (await network.load_mod("./work")).success, "nothing is known of a quarantine of it"


async def test_a_checkpoint_that_is_not_taken_over_is_a_reason(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "counter", COUNTER, restart={**FAST, "max_restarts": 1})
    await network.process_event(Event("count.set", "agent:alice", payload={"to": -1}))
    os.kill(network.get_loaded_mods()["counter"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["counter"]["state"] == "quarantined")
    report = network.get_crashes("counter")[-1]
    assert report["cause"] == "start_failure"
    assert "did not take over its checkpoint" in report["detail"]
    assert "a count below zero" in report["detail"]


async def test_a_checkpoint_has_its_size(make_network: MakeNetwork, write_mod: WriteMod) -> None:
    network = make_network(journal={"checkpoint_bytes": "100KB"})
    await network.initialize()
    await load(network, write_mod, "counter", COUNTER)
    answer = await network.process_event(Event("count.huge", "agent:alice", payload={"size": 200_000}))
    assert answer.error == "too_large"
    assert (await network.process_event(Event("count.huge", "agent:alice", payload={"size": 50_000}))).success


# -- the state file


async def test_a_backup_is_a_whole_journal(make_network: MakeNetwork, write_mod: WriteMod, tmp_path: Path) -> None:
    network = make_network()
    await network.initialize()
    await network.load_mod(write_mod("echo"))
    secret = (await network.register_agent("alice")).data["secret"]
    copy = tmp_path / "copy.db"
    assert await network.backup(copy) == copy.stat().st_size
    await network.shutdown()

    other = make_network({"storage": "other"})
    (tmp_path / "other").mkdir()
    copy.rename(tmp_path / "other" / "network.db")
    await other.initialize()
    assert list(other.get_loaded_mods()) == ["echo"]
    assert other.authenticate("alice", secret)


async def test_a_network_starts_beside_a_damaged_journal(
    make_network: MakeNetwork, tmp_path: Path, caplog: Any
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "network.db").write_bytes(b"no database" * 1000)
    network = make_network(mods=[])
    await network.initialize()
    assert network.is_running
    assert "The damaged file is now" in caplog.text


async def test_after_an_unclean_end_the_last_good_version_runs(
    make_network: MakeNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    """The journal says whether the former owner closed it: here it is copied while the network runs."""
    network = make_network(mods=[write_mod("echo")])
    await network.initialize()
    await network.backup(tmp_path / "as-killed.db")
    snapshot = (tmp_path / "state" / "snapshots" / "echo.msgpack").read_bytes()
    await network.shutdown()
    (tmp_path / "as-killed.db").rename(tmp_path / "state" / "network.db")
    (tmp_path / "state" / "snapshots" / "echo.msgpack").write_bytes(snapshot)
    write_mod("echo", "a half-finished edit (")
    await network.initialize()
    answer = await network.process_event(Event("test.ping", "agent:alice", payload={"i": 1}))
    assert answer.data == {"pong": 1, "version": "1.0"}
    write_mod("echo", ECHO.replace("1.0", "2.0"))
    assert (await network.reload_mod("echo")).success
    answer = await network.process_event(Event("test.ping", "agent:alice", payload={"i": 1}))
    assert answer.data == {"pong": 1, "version": "2.0"}


async def test_an_event_that_is_sent_again_is_accepted_once(make_network: MakeNetwork, write_mod: WriteMod) -> None:
    """Its first sender was cut off with the supervisor, and sends it again before the kept one is on its way."""
    network = make_network()
    await network.initialize()
    journal = network._parts.journal
    event = Event("work.do", "agent:alice", payload={"n": 1, "at_once": True}, event_id="same")
    first = await journal.accept("work", event)
    assert await journal.accept("work", event) == first
    cancelled = asyncio.create_task(journal.accept("work", event))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert len(await journal.pending("work")) == 1, "what was accepted before is not withdrawn"
    await load(network, write_mod, "work", WORK, durable=True)
    assert (await network.process_event(event)).success
    await until(lambda: network.get_network_stats()["journal"]["durable_events"] == 0)
    assert len(calls(network)) == 1
