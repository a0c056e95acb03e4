"""A reload or swap that goes wrong: before the switch, in its probation, at any step of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until, worker_pids

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

COUNTER = """
    import asyncio, os, time
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Counter(BaseMod):
        version = "1.0"

        def initialize(self):
            self.counts, self.number = {}, 0

        def get_state(self):
            return self.counts

        def set_state(self, state, from_version):
            self.counts = state

        @mod_event_handler("count.up")
        async def up(self, event):
            self.number += 1
            self.before(event)
            self.counts[event.source_id] = self.counts.get(event.source_id, 0) + 1
            return EventResponse(True, data={"count": self.counts[event.source_id], "version": self.version})

        def before(self, event):
            pass
"""

NEW = COUNTER.replace('"1.0"', '"2.0"')
FAST: dict[str, Any] = {"first_delay": 0.02}


async def up(network: AgentNetwork, source: str = "agent:alice") -> dict[str, Any]:
    answer = await network.process_event(Event("count.up", source, timeout=10))
    assert answer.success, answer
    return answer.data


def stats(network: AgentNetwork, mod: str = "counter") -> dict[str, Any]:
    return network.get_network_stats()["mods"][mod]


class Load:
    """Events one after the other from several sources, until told to end."""

    def __init__(self, network: AgentNetwork) -> None:
        self.counts: dict[str, list[int]] = {f"agent:a{n}": [] for n in range(4)}
        self.failed: list[Any] = []
        self._network = network
        self._ending = False

    async def send(self, source: str) -> None:
        while not self._ending:
            answer = await self._network.process_event(Event("count.up", source, timeout=10))
            if answer.success:
                self.counts[source].append(answer.data["count"])
            else:
                self.failed.append(answer)
                await asyncio.sleep(0)  # a refusal comes at once: without a turn for others, this would never be ended

    def end(self) -> None:
        self._ending = True

    @property
    def answered(self) -> int:
        return sum(map(len, self.counts.values()))

    def check(self) -> None:
        """None lost, none handled twice, in order: each source counts on without a gap."""
        assert not self.failed
        for counted in self.counts.values():
            assert counted == list(range(1, len(counted) + 1))


@asynccontextmanager
async def load_on(network: AgentNetwork) -> AsyncIterator[Load]:
    load = Load(network)
    sending = [asyncio.create_task(load.send(source)) for source in load.counts]
    try:
        await until(lambda: load.answered > 20)
        yield load
        reached = load.answered
        await until(lambda: load.answered > reached + 20 or load.failed)
    finally:
        load.end()
        await asyncio.wait(sending)


HANGS = "import threading; threading.Event().wait()"
BROKEN = {
    "syntax": (NEW + "\n    x = (", "import_failed", "import"),
    "import": ("import nothing_like_this\n" + NEW.replace("\n    ", "\n"), "import_failed", "import"),
    "no_class": ("x = 1\n", "no_mod_class", "import"),
    "initialize_false": (NEW.replace("self.counts, self.number = {}, 0", "return False"), "initialize_failed", "initialize"),
    "initialize_raises": (NEW.replace("self.counts, self.number = {}, 0", "1 / 0"), "initialize_failed", "initialize"),
    "initialize_hangs": (NEW.replace("self.counts, self.number = {}, 0", HANGS), "start_timeout", "start"),
    "exits": (NEW.replace("self.counts, self.number = {}, 0", "os._exit(4)"), "start_failed", "start"),
    "set_state_raises": (NEW.replace("self.counts = state", "raise ValueError('of the past')"), "state_refused", "set_state"),
    "set_state_false": (NEW.replace("self.counts = state", "return False"), "state_refused", "set_state"),
    "set_state_hangs": (NEW.replace("self.counts = state", HANGS), "timeout", "set_state"),
    "set_state_exits": (NEW.replace("self.counts = state", "os._exit(4)"), "mod_crashed", "set_state"),
    "activate_false": (NEW + "\n        def activate(self): return False", "initialize_failed", "activate"),
    "not_ready": (NEW + "\n        async def check_ready(self): return False", "not_ready", "ready"),
    "never_ready": (
        NEW + "\n        async def check_ready(self): await asyncio.Event().wait()", "start_timeout", "activate"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_reload_into_broken_code_disturbs_nobody(network: AgentNetwork, write_mod: WriteMod, kind: str) -> None:
    source, code, step = BROKEN[kind]
    await network.load_mod(write_mod("counter", COUNTER), limits={"start_timeout": 0.7}, restart=FAST)
    async with load_on(network) as load:
        before = stats(network)
        write_mod("counter", source)
        failed = await network.reload_mod("counter")
        assert (failed.success, failed.error, failed.data["step"]) == (False, code, step), failed
        assert "the old one still serves" in str(failed.message)
        after = stats(network)
        assert (after["pid"], after["version"], after["state"]) == (before["pid"], "1.0", "ready")
        assert (after["restarts"], after["crashes"]) == (0, 0)
    load.check()
    assert len(worker_pids()) == 1
    write_mod("counter", NEW)
    assert (await network.reload_mod("counter")).success, "mended, it is reloaded"
    assert (await up(network))["version"] == "2.0"


CRASHES = NEW.replace("            pass", "            if self.number == 7: os._exit(9)")


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("activate", ["", "\n        def activate(self): self.opened = True"])
async def test_a_crash_on_probation_brings_the_former_version_back(
    network: AgentNetwork, write_mod: WriteMod, activate: str, durable: bool
) -> None:
    """From its standby, or (one that cannot be activated twice) from its kept sources."""
    await network.load_mod(write_mod("counter", COUNTER + activate), restart=FAST, durable=durable)
    former = stats(network)["pid"]
    async with load_on(network) as load:
        write_mod("counter", CRASHES)
        reloaded = await network.reload_mod("counter")
        assert reloaded.success
        assert (reloaded.data["from"], reloaded.data["to"]) == ("1.0", "2.0")
        assert reloaded.data["state_bytes"] > 4
        await until(lambda: stats(network)["rollbacks"] == 1)
        await until(lambda: stats(network)["state"] == "ready")
        assert stats(network)["version"] == "1.0"
        assert (stats(network)["pid"] == former) == (activate == "")
        last = "version 2.0 of incarnation 2 failed on probation, version 1.0 of incarnation 1 serves again"
        assert last in stats(network)["last_rollback"]
        assert "exit code 9" in stats(network)["last_rollback"]
    assert not load.failed
    assert load.answered
    (report,) = network.get_crashes("counter")
    assert (report["version"], report["detail"]) == ("2.0", "exit code 9")
    assert len(worker_pids()) == 1
    os.kill(stats(network)["pid"], signal.SIGKILL)
    assert (await up(network))["version"] == "1.0", "restarts run the version that came back, not the working files"


async def test_a_version_that_fails_its_events_is_rolled_back_with_its_state(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await network.load_mod(write_mod("counter", COUNTER), restart=FAST)
    for _ in range(30):
        await up(network)
    write_mod("counter", NEW.replace("            pass", "            if self.number > 3: raise ValueError('worse')"))
    assert (await network.reload_mod("counter")).success
    assert stats(network)["on_probation_after"] == "1.0"
    for _ in range(20):
        await network.process_event(Event("count.up", "agent:alice"))
    await until(lambda: stats(network)["rollbacks"] == 1)
    assert await up(network) == {"count": 34, "version": "1.0"}, "three were counted by the new one"
    assert "17 of 20 events failed; 0 of 30 did before" in stats(network)["last_rollback"]
    assert stats(network)["on_probation_after"] is None
    assert stats(network)["crashes"] == 0
    await until(lambda: len(worker_pids()) == 1)


async def test_the_state_of_a_version_that_crashed_is_its_last_checkpoint(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    keeps = (
        NEW.replace("def before(self, event):", "def before(self, event):\n                if False: yield")
        .replace(
            "            self.before(event)\n",
            """            if self.number == 3: await self.context.checkpoint({"agent:alice": 100})
            if self.number == 4: os._exit(1)
""",
        )
        .replace("def before(self, event):\n                if False: yield\n            pass", "")
    )
    await network.load_mod(write_mod("counter", COUNTER), restart=FAST)
    await up(network)
    write_mod("counter", keeps)
    assert (await network.reload_mod("counter")).success
    assert [(await up(network))["count"] for _ in range(2)] == [2, 3]
    assert await up(network) == {"count": 4, "version": "2.0"}, "the third keeps a checkpoint"
    assert await up(network) == {"count": 101, "version": "1.0"}, "the fourth ends it, and is handled by the former one"


async def test_a_swap_that_fails_on_probation_is_taken_back_with_its_id(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await network.load_mod(write_mod("first"))
    await network.load_mod(write_mod("counter", COUNTER), restart=FAST)
    await up(network)
    swapped = await network.swap_mod("counter", write_mod("better", CRASHES), restart=FAST, alias=True)
    assert swapped.success, swapped
    assert list(network.get_loaded_mods()) == ["first", "better"]
    addressed = await network.process_event(Event("count.up", "agent:alice", "mod:counter"))
    assert addressed.data == {"count": 2, "version": "2.0"}, "by its alias"
    for _ in range(6):
        await up(network)
    assert (await up(network))["version"] == "1.0"
    assert list(network.get_loaded_mods()) == ["first", "counter"]
    assert stats(network)["rollbacks"] == 1
    assert (await network.load_mod("./better", mod_id="better")).success, "its id is free again"
    assert len(worker_pids()) == 3


async def test_an_alias_is_an_id_that_nobody_else_can_have(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("counter", COUNTER))
    await network.load_mod(write_mod("echo"))
    assert (await network.swap_mod("counter", write_mod("two", NEW), alias=True)).success
    assert (await network.load_mod("./counter")).error == "already_loaded"
    assert (await network.load_mod("./counter", mod_id="third", aliases=["echo"])).error == "already_loaded"
    assert (await network.reload_mod("counter")).success, "commands take it too"
    assert (await network.swap_mod("counter", "./counter", mod_id="three", alias=True)).success
    for name in ("counter", "two", "three"):
        assert (await network.process_event(Event("count.up", "agent:a", f"mod:{name}"))).success
    assert (await network.unload_mod("counter")).success
    assert list(network.get_loaded_mods()) == ["echo"]
    assert (await network.load_mod("./counter")).success


async def test_an_alias_outlives_the_network(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("counter", COUNTER))
    assert (await network.swap_mod("counter", write_mod("two", NEW), alias=True)).success
    await network.shutdown()
    await network.initialize()
    assert (await network.process_event(Event("count.up", "agent:a", "mod:counter"))).data["version"] == "2.0"


@pytest.mark.parametrize("end", ["time", "reload", "unload", "shutdown", "restart"])
async def test_a_probation_ends_with_its_standby(network: AgentNetwork, write_mod: WriteMod, end: str) -> None:
    await network.load_mod(write_mod("counter", COUNTER), probation=0.3 if end == "time" else 60)
    former = psutil.Process(stats(network)["pid"])
    write_mod("counter", NEW)
    assert (await network.reload_mod("counter")).success
    if end == "time":
        await until(lambda: stats(network)["on_probation_after"] is None)
    elif end == "reload":
        assert (await network.reload_mod("counter")).success
        assert stats(network)["on_probation_after"] == "2.0"
    elif end == "restart":
        assert (await network.restart_mod("counter")).success
        assert (await up(network))["version"] == "2.0", "what was on probation is the last good version now"
    elif end == "unload":
        assert (await network.unload_mod("counter")).success
    else:
        await network.shutdown()
        assert worker_pids() == set()
        return
    await until(lambda: not former.is_running())
    if end in ("time", "reload"):
        os.kill(stats(network)["pid"], signal.SIGKILL)
        assert (await up(network))["version"] == "2.0"


async def test_a_reload_that_fails_does_not_end_the_probation(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("counter", COUNTER), restart=FAST)
    write_mod("counter", CRASHES)
    assert (await network.reload_mod("counter")).success
    write_mod("counter", "x = (")
    assert not (await network.reload_mod("counter")).success
    assert stats(network)["on_probation_after"] == "1.0"
    for _ in range(6):
        await up(network)
    assert (await up(network))["version"] == "1.0", "the way back was still there"


async def test_a_standby_that_is_gone_is_no_hindrance(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("counter", COUNTER), restart=FAST)
    standby = stats(network)["pid"]
    write_mod("counter", CRASHES)
    assert (await network.reload_mod("counter")).success
    os.kill(standby, signal.SIGKILL)
    for _ in range(6):
        await up(network)
    assert (await up(network))["version"] == "1.0"
    assert stats(network)["pid"] != standby


async def test_two_processes_above_the_memory_limit_are_not_kept(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("counter", COUNTER), restart=FAST, limits={"memory": "60MB"})
    former = psutil.Process(stats(network)["pid"])
    write_mod("counter", CRASHES + "\n        filler = bytearray(8_000_000)")
    assert (await network.reload_mod("counter")).success
    for _ in range(6):
        await up(network)
    assert (await up(network))["version"] == "1.0", "from its kept sources"
    assert not former.is_running() or stats(network)["pid"] == former.pid


async def test_what_a_standby_says_is_not_heard(network: AgentNetwork, write_mod: WriteMod) -> None:
    chatty = COUNTER + """
        async def initialize(self):
            self.counts, self.number = {}, 0
            self.task = asyncio.create_task(self.chat())

        async def chat(self):
            from modvisor.mods import Event
            while True:
                answer = await self.context.send_event(Event("chat.said", payload={"version": self.version}))
                print("heard" if answer.success else answer.error, self.version)
                await asyncio.sleep(0.01)

        @mod_event_handler("chat.said")
        async def said(self, event):
            return EventResponse(True)
"""  # fmt: skip
    await network.load_mod(write_mod("ear", """
        from modvisor.mods import BaseMod, EventResponse, mod_event_handler
        class Ear(BaseMod):
            @mod_event_handler("chat.*")
            async def hear(self, event):
                return EventResponse(True)
    """))  # fmt: skip
    await network.load_mod(write_mod("chatty", chatty))
    write_mod("chatty", chatty.replace('"1.0"', '"2.0"'))
    assert (await network.reload_mod("chatty")).success
    await until(lambda: any("mod_away 1.0" in line for line in network.mod_log("chatty", 1000)))
    with network.tap() as said:
        versions = [(await said.get())[0].payload["version"] for _ in range(10)]
    assert set(versions) == {"2.0"}


DIES = ["get_state", "set_state", "activate", "deactivate", "check_ready"]


@pytest.mark.parametrize("step", DIES)
@pytest.mark.parametrize("who", ["old", "new"])
async def test_a_kill_of_either_incarnation_at_any_step_leaves_one_that_serves(
    network: AgentNetwork, write_mod: WriteMod, who: str, step: str
) -> None:
    """Each step of a reload tells that it has begun and waits; whichever of the two is killed then, one version serves."""
    steps = COUNTER + "".join(
        f"""
        async def {name}(self, *args):
            if {name!r} == "set_state": self.counts = args[0]
            if {name!r} == {step!r} and os.path.exists(self.config["wait"]):
                print("at {name}", flush=True)
                while os.path.exists(self.config["wait"]): await asyncio.sleep(0.01)
            if {name!r} == "get_state": return self.counts
"""
        for name in DIES
    )  # fmt: skip
    wait = network.state_dir.storage_of("counter") / "wait"
    path = write_mod("counter", steps)
    await network.load_mod(path, config={"wait": str(wait)}, restart=FAST)
    await up(network)
    old = stats(network)["pid"]
    write_mod("counter", steps.replace('"1.0"', '"2.0"'))
    wait.touch()
    with network.follow_log("counter") as log:
        reload = asyncio.create_task(network.reload_mod("counter"))
        while f"at {step}" not in await log.get():
            pass
        (new,) = worker_pids() - {old}
        waiting = asyncio.create_task(up(network))
        os.kill(old if who == "old" else new, signal.SIGKILL)
        wait.unlink()
    answer = await reload
    served = await waiting
    assert served["version"] == ("2.0" if answer.success else "1.0"), answer
    assert stats(network)["version"] == served["version"]
    if not answer.success:
        assert answer.data["step"]
        assert "serves" in str(answer.message) or "restart goes on" in str(answer.message)
    await until(lambda: stats(network)["state"] == "ready")
    assert (await up(network))["version"] == served["version"]


async def test_a_reload_from_another_path_is_one_of_the_same_mod(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("counter", COUNTER))
    await up(network)
    moved = await network.reload_mod("counter", write_mod("elsewhere", NEW))
    assert moved.success, moved
    assert moved.data["mod_path"] == "./elsewhere"
    assert await up(network) == {"count": 2, "version": "2.0"}
    assert list(network.get_loaded_mods()) == ["counter"]
    wrong = await network.reload_mod("counter", "../escape")
    assert (wrong.success, wrong.error) == (False, "bad_config")
    missing = await network.reload_mod("counter", "./missing")
    assert (missing.error, missing.data["step"]) == ("no_mod_class", "import")
    assert (await up(network))["version"] == "2.0"
    await network.shutdown()
    await network.initialize()
    assert (await up(network))["version"] == "2.0"


EXCLUSIVE = (
    COUNTER
    + """
        def initialize_lock(self):
            import fcntl
            self.lock = open(self.context.storage_path / "lock", "w")
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
"""
)
EXCLUSIVE = EXCLUSIVE.replace(
    "self.counts, self.number = {}, 0", "self.counts, self.number = {}, 0; self.initialize_lock()"
)


@pytest.mark.parametrize("kind", ["good", "import", "set_state_false", "activate_false", "not_ready", "exits"])
async def test_a_mod_that_cannot_be_there_twice_is_stopped_first(
    network: AgentNetwork, write_mod: WriteMod, kind: str
) -> None:
    await network.load_mod(write_mod("counter", EXCLUSIVE), reload="stop_first", restart=FAST)
    write_mod("counter", EXCLUSIVE.replace('"1.0"', '"2.0"') if kind == "good" else BROKEN[kind][0])
    async with load_on(network) as load:
        reloaded = await network.reload_mod("counter")
        assert reloaded.success == (kind == "good"), reloaded
        if kind != "good":
            assert (reloaded.error, reloaded.data["step"]) == BROKEN[kind][1:]
        assert stats(network)["state"] == "ready"
    load.check()
    assert (await up(network))["version"] == ("2.0" if kind == "good" else "1.0")
    assert len(worker_pids()) == 1
    assert stats(network)["crashes"] == 0


async def test_one_that_cannot_be_there_twice_says_so_beside_itself(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("counter", EXCLUSIVE))
    failed = await network.reload_mod("counter")
    assert (failed.error, failed.data["step"]) == ("initialize_failed", "initialize")
    assert (await up(network))["version"] == "1.0"


async def test_an_unload_while_the_former_version_comes_back_leaves_nothing(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await network.load_mod(write_mod("counter", COUNTER), restart=FAST)
    write_mod("counter", CRASHES)
    assert (await network.reload_mod("counter")).success
    mod = network._running().mods.find("counter")
    reading = asyncio.Event()

    async def newest() -> None:
        reading.set()
        await asyncio.Event().wait()

    mod.checkpoints.newest = newest
    for _ in range(6):
        await up(network)
    last = asyncio.create_task(network.process_event(Event("count.up", "agent:alice", timeout=10)))
    await reading.wait()
    assert (await network.unload_mod("counter")).success
    assert not (await last).success
    assert worker_pids() == set()
