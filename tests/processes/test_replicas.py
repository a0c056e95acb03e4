"""A mod with several workers: whose an event is, and what they are to the network: one mod."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from modvisor.mods import partition_of
from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until, worker_pids
from tests.processes.test_reload import CRASHES, FAST, load_on

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

PARTED = """
    import asyncio, os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler, partition_of

    class Parted(BaseMod):
        version = "1.0"
        process = os.urandom(8).hex()  # each imports anew

        def initialize(self):
            self.counts = {}

        def get_state(self):
            return self.counts

        def set_state(self, state, from_version):
            self.counts = state

        @mod_event_handler("count.up")
        async def up(self, event):
            key = event.payload.get("order", {}).get("id") or event.source_id
            self.counts[key] = self.counts.get(key, 0) + 1
            return EventResponse(True, data={
                "count": self.counts[key], "version": self.version, "replica": self.context.replica,
                "storage": str(self.context.storage_path), "process": self.process})

        @mod_event_handler("count.ask_another")
        async def ask_another(self, event):
            from modvisor.mods import Event
            answer = await self.context.send_event(Event("count.up", "mod:parted", "agent:alice"))
            return EventResponse(answer.success, data=answer.data)

        @mod_event_handler("*", observe=True)
        async def watch(self, event):
            print("saw", event.source_id, flush=True)
"""
MERGES = PARTED + """
        def merge_state(self, states, from_version):
            return {key: count for state in states for key, count in state.items()}

        def split_state(self, state, count):
            parts = [{} for _ in range(count)]
            for key, n in state.items():
                parts[partition_of(key, count)][key] = n
            return parts
"""  # fmt: skip


async def up(network: AgentNetwork, source: str = "agent:a", **payload: Any) -> dict[str, Any]:
    answer = await network.process_event(Event("count.up", source, payload=payload, timeout=10))
    assert answer.success, answer
    return answer.data


def stats(network: AgentNetwork) -> dict[str, Any]:
    return network.get_network_stats()["mods"]["parted"]


async def test_each_source_has_its_worker_and_each_worker_its_own(network: AgentNetwork, write_mod: WriteMod) -> None:
    loaded = await network.load_mod(write_mod("parted", PARTED), workers=4)
    assert loaded.success, loaded
    assert len(worker_pids()) == 4
    seen = defaultdict(set)
    for n in range(40):
        for turn in (1, 2):
            answer = await up(network, f"agent:a{n}")
            assert answer["count"] == turn
            assert answer["replica"] == partition_of(f"agent:a{n}", 4)
            seen[answer["replica"]].add((answer["process"], answer["storage"]))
    assert sorted(seen) == [0, 1, 2, 3]
    folder = network.state_dir.storage_of("parted")
    for replica, own in seen.items():
        ((_, storage),) = own
        assert storage == str(folder / str(replica))
    mod = stats(network)
    assert (mod["state"], mod["traffic"]["answered"], len(mod["workers"])) == ("ready", 80, 4)
    assert sum(worker["traffic"]["answered"] for worker in mod["workers"]) == 80
    assert {worker["pid"] for worker in mod["workers"]} == worker_pids()
    assert list(network.get_loaded_mods()) == ["parted"]
    assert set(network.get_loaded_mods()["parted"]["pids"]) == set(loaded.data["pids"]) == worker_pids()
    assert (await network.unload_mod("parted")).success
    assert worker_pids() == set()


async def test_a_value_of_the_payload_may_decide(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("parted", PARTED), workers=3, partition_by="payload.order.id")
    for n in range(9):
        for source in ("agent:a", "agent:b"):
            answer = await up(network, source, order={"id": n or "x"})
            assert answer["replica"] == partition_of(n or "x", 3)
    assert (await up(network, "agent:a", order={"no": 7}))["replica"] == partition_of("agent:a", 3), (
        "without the value: the source"
    )


async def test_the_least_loaded_gets_the_next(network: AgentNetwork, write_mod: WriteMod) -> None:
    slow = PARTED.replace(
        "            key = event", "            await asyncio.Event().wait()\n            key = event"
    )
    await network.load_mod(write_mod("parted", slow), workers=3, partition_by="least_loaded")
    sending = [asyncio.create_task(up(network)) for _ in range(9)]
    await until(lambda: [worker["traffic"]["in_flight"] for worker in stats(network)["workers"]] == [3, 3, 3])
    for task in sending:
        task.cancel()
    await asyncio.wait(sending)


async def test_a_worker_that_dies_is_the_trouble_of_its_keys_alone(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("parted", PARTED), workers=4, restart={"first_delay": 30, "max_delay": 30})
    sources = {(await up(network, f"agent:a{n}"))["replica"]: f"agent:a{n}" for n in range(40)}
    os.kill(stats(network)["workers"][2]["pid"], signal.SIGKILL)
    await until(lambda: stats(network)["state"] == "backoff")
    for replica in (0, 1, 3):
        assert (await up(network, sources[replica]))["count"] == 2
    waits = await network.process_event(Event("count.up", sources[2], timeout=0.2))
    assert waits.error == "timeout"
    (report,) = network.get_crashes("parted")
    assert report["mod_id"] == "parted#2"
    assert network.get_crashes("parted#2") == [report]
    assert (await network.restart_mod("parted")).success
    assert (await up(network, sources[2]))["count"] == 1, "it had kept nothing"
    assert (await up(network, sources[0]))["count"] == 3, "the others were replaced with their state"


@pytest.mark.parametrize("durable", [pytest.param(False, marks=pytest.mark.slow), True])
async def test_a_reload_replaces_one_by_one_and_loses_nothing(
    network: AgentNetwork, write_mod: WriteMod, durable: bool
) -> None:
    source = PARTED.replace('"parted"', '"counter"')
    await network.load_mod(write_mod("counter", source), workers=4, durable=durable, restart=FAST)
    before = worker_pids()
    async with load_on(network) as load:
        write_mod("counter", source.replace('"1.0"', '"2.0"'))
        done = await network.reload_mod("counter")
        assert done.success, done
        assert (done.data["from"], done.data["to"], done.data["workers"]) == ("1.0", "2.0", 4)
    load.check()
    assert (await up(network))["version"] == "2.0"
    assert len(worker_pids()) == 8, "the former ones are kept until the new ones have proven themselves"
    assert before < worker_pids()
    assert (await network.restart_mod("counter")).success
    await until(lambda: len(worker_pids()) == 4)


async def test_a_reload_that_fails_at_one_worker_leaves_all_as_they_were(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await network.load_mod(write_mod("counter", PARTED), workers=3, restart=FAST, probation=None)
    async with load_on(network) as load:
        broken = PARTED.replace('"1.0"', '"2.0"').replace(
            "self.counts = {}", "self.counts = {}; assert self.context.replica != 2, 'not this one'"
        )
        write_mod("counter", broken)
        failed = await network.reload_mod("counter")
        assert (failed.success, failed.error, failed.data["worker"]) == (False, "initialize_failed", 2), failed
    load.check()
    workers = network.get_network_stats()["mods"]["counter"]["workers"]
    assert [worker["version"] for worker in workers] == ["1.0"] * 3
    assert [worker["rollbacks"] for worker in workers] == [1, 1, 0]
    await until(lambda: len(worker_pids()) == 3)


async def test_a_worker_that_fails_on_probation_takes_all_back(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("counter", PARTED), workers=3, restart=FAST)
    write_mod("counter", CRASHES)
    async with load_on(network) as load:
        assert (await network.reload_mod("counter")).success
        await until(lambda: network.get_network_stats()["mods"]["counter"]["rollbacks"] == 3)
        await until(lambda: network.get_network_stats()["mods"]["counter"]["state"] == "ready")
    assert not load.failed
    workers = network.get_network_stats()["mods"]["counter"]["workers"]
    assert [worker["version"] for worker in workers] == ["1.0"] * 3
    await until(lambda: len(worker_pids()) == 3)


@pytest.mark.parametrize(
    ("former", "later"),
    [(4, 2), pytest.param(2, 5, marks=pytest.mark.slow), pytest.param(1, 3, marks=pytest.mark.slow)],
)
async def test_another_number_of_workers_parts_the_state_anew(
    network: AgentNetwork, write_mod: WriteMod, former: int, later: int
) -> None:
    path = write_mod("counter", MERGES)
    await network.load_mod(path, workers=former, restart=FAST)
    async with load_on(network) as load:
        changed = await network.swap_mod("counter", path, mod_id="counter", workers=later)
        assert changed.success, changed
        assert changed.data["workers"] == later
    load.check()
    assert len(network.get_network_stats()["mods"]["counter"]["workers"]) == later
    await until(lambda: len(worker_pids()) == later)
    for n in range(20):
        assert (await up(network, f"agent:b{n}"))["replica"] == partition_of(f"agent:b{n}", later)


async def test_what_was_kept_of_other_parts_is_not_given_back(network: AgentNetwork, write_mod: WriteMod) -> None:
    path = write_mod("parted", MERGES)
    await network.load_mod(path, workers=2, restart=FAST, checkpoint_every=60)
    for n in range(12):
        await up(network, f"agent:a{n}")
    for mod in network._running().mods.find("parted").keepers:
        await mod.checkpoints.keep({f"agent:a{n}": 50 for n in range(12)}, "1.0")
    changed = await network.swap_mod("parted", path, mod_id="parted", workers=3, restart=FAST, checkpoint_every=60)
    assert changed.success, changed
    for pid in network.get_loaded_mods()["parted"]["pids"]:
        os.kill(pid, signal.SIGKILL)
    assert [(await up(network, f"agent:a{n}"))["count"] for n in range(12)] == [2] * 12


async def test_a_mod_that_cannot_part_its_state_keeps_its_workers(network: AgentNetwork, write_mod: WriteMod) -> None:
    path = write_mod("counter", PARTED)
    await network.load_mod(path, workers=2, restart=FAST)
    async with load_on(network) as load:
        refused = await network.swap_mod("counter", path, mod_id="counter", workers=3)
        assert (refused.success, refused.error, refused.data["step"]) == (False, "state_refused", "split_state"), (
            refused
        )
        assert "the mod does not define merge_state() and split_state()" in str(refused.message)
        refused = await network.swap_mod("counter", path, mod_id="counter")
        assert (refused.error, "unload it" in str(refused.message)) == ("conflict", True)
    load.check()
    assert len(worker_pids()) == 2


async def test_a_swap_of_all_workers_and_its_way_back(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("counter", PARTED), workers=2, restart=FAST)
    assert (await up(network))["count"] == 1
    swapped = await network.swap_mod("counter", write_mod("better", CRASHES), workers=2, restart=FAST)
    assert swapped.success, swapped
    assert list(network.get_loaded_mods()) == ["better"]
    for _ in range(8):
        await up(network)
    await until(lambda: list(network.get_loaded_mods()) == ["counter"])
    await until(lambda: {w["version"] for w in network.get_network_stats()["mods"]["counter"]["workers"]} == {"1.0"})
    await until(lambda: len(worker_pids()) == 2)


async def test_what_a_worker_sends_comes_from_the_mod(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("parted", PARTED), workers=2)
    await network.load_mod(write_mod("ear", """
        from modvisor.mods import BaseMod, EventResponse, mod_event_handler
        class Ear(BaseMod):
            @mod_event_handler("count.up")
            async def hear(self, event):
                return EventResponse(True, data=[event.source_id, event.via])
    """))  # fmt: skip
    answer = await network.process_event(Event("count.ask_another", "agent:a"))
    assert answer.data == ["mod:parted", "mod:parted"]


async def test_observers_and_logs(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("parted", PARTED), workers=2)
    sources = {partition_of(f"agent:a{n}", 2): f"agent:a{n}" for n in range(20)}
    for source in sources.values():
        await up(network, source)
    for replica, source in sources.items():
        await until(lambda: any(f"saw {source}" in line for line in network.mod_log(f"parted#{replica}")))  # noqa: B023
    seen = [line for line in network.mod_log("parted") if "saw" in line]
    assert len(seen) == 2
    assert seen == sorted(seen)


async def test_all_workers_or_none_start(network: AgentNetwork, write_mod: WriteMod) -> None:
    broken = PARTED.replace("self.counts = {}", "assert self.context.replica != 1, 'not this one'")
    failed = await network.load_mod(write_mod("parted", broken), workers=3)
    assert (failed.success, failed.error) == (False, "initialize_failed")
    assert "not this one" in str(failed.message)
    assert network.get_loaded_mods() == {}
    assert worker_pids() == set()


async def test_they_come_back_with_the_network(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("parted", PARTED), workers=3, checkpoint_every=60)
    before = [(await up(network, f"agent:a{n}"))["count"] for n in range(10)]
    assert set(before) == {1}
    await network.shutdown()
    await network.initialize()
    assert [(await up(network, f"agent:a{n}"))["count"] for n in range(10)] == [2] * 10
    assert len(worker_pids()) == 3


@pytest.mark.parametrize(("former", "later"), [(2, 5), pytest.param(4, 2, marks=pytest.mark.slow)])
async def test_another_number_after_a_restart_of_the_network(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod, former: int, later: int
) -> None:
    path = write_mod("parted", MERGES)
    sources = [f"agent:a{n}" for n in range(12)]

    def network_of(workers: int) -> AgentNetwork:
        return make_network(mods=[{"path": path, "workers": workers, "checkpoint_every": 60}])

    for workers, count in ((former, 1), (later, 2)):
        network = network_of(workers)
        await network.initialize()
        assert stats(network)["state"] == "ready", stats(network)["last_error"]
        for source in sources:
            answer = await up(network, source)
            assert (answer["count"], answer["replica"]) == (count, partition_of(source, workers))
        await network.shutdown()
    write_mod("parted", PARTED)
    network = network_of(later + 1)
    await network.initialize()
    assert stats(network)["state"] == "failed"
    assert f"had {later} workers when it last ran" in stats(network)["last_error"]
    again = await network.reload_mod("parted")
    assert (again.error, again.success) == ("state_refused", False)
    assert worker_pids() == set()
    await network.shutdown()
    network = network_of(later)
    await network.initialize()
    assert (await up(network, sources[0]))["count"] == 3, "nothing was lost by the attempt"
    assert (await network.unload_mod("parted")).success
    assert network.get_network_stats()["journal"]["checkpoints"] == 0


async def test_what_was_accepted_for_other_workers_is_handled_by_those_there_are(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    waits = PARTED.replace("            key = event", "            await self.gate()\n            key = event") + """
        async def gate(self):
            while not (self.context.storage_path / "open").exists():
                await asyncio.sleep(0.01)
"""  # fmt: skip
    path = write_mod("parted", waits)
    entry = {"path": path, "durable": True, "limits": {"drain_timeout": 0.1}}
    network = make_network(mods=[{**entry, "workers": 4}])
    await network.initialize()
    for n in range(8):
        accepted = await network.process_event(Event("count.up", f"agent:a{n}", timeout=0.1))
        assert accepted.error == "pending", accepted
    await network.shutdown()
    for index in range(2):
        (network.state_dir.storage_of(f"parted#{index}") / "open").touch()
    network = make_network(mods=[{**entry, "workers": 2}])
    await network.initialize()
    await until(lambda: network.get_network_stats()["journal"]["durable_events"] == 0)
    for n in range(8):
        assert (await up(network, f"agent:a{n}"))["count"] == 2


async def test_workers_in_quarantine_come_back_when_asked_for(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("parted", PARTED), workers=2, restart={"max_restarts": 0})
    for pid in network.get_loaded_mods()["parted"]["pids"]:
        os.kill(pid, signal.SIGKILL)
    await until(lambda: {worker["state"] for worker in stats(network)["workers"]} == {"quarantined"})
    assert (await network.process_event(Event("count.up", "agent:a"))).error == "mod_away"
    restarted = await network.restart_mod("parted")
    assert restarted.success, restarted
    assert (await up(network))["count"] == 1
    os.kill(network.get_loaded_mods()["parted"]["pids"][0], signal.SIGKILL)
    await until(lambda: stats(network)["workers"][0]["state"] == "quarantined")
    assert (await network.reload_mod("parted")).success, "one of them is down, the other is replaced"
    assert {worker["state"] for worker in stats(network)["workers"]} == {"ready"}


async def test_a_number_that_makes_no_sense_is_a_mistake(network: AgentNetwork, write_mod: WriteMod) -> None:
    path = write_mod("parted", PARTED)
    for wrong in (
        {"workers": 0},
        {"workers": "many"},
        {"partition_by": "color"},
        {"workers": 2, "partition_by": "payload"},
    ):
        refused = await network.load_mod(path, **wrong)
        assert refused.error == "bad_config", refused
    assert psutil.Process().is_running()
