"""Load, unload, reload with real workers: fresh code, clear failures, nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.journal.state_dir import StateDirBusy
from modvisor.supervisor.network import StartError
from tests.conftest import ECHO, child_pids, open_files, until, worker_pids
from tests.pids import beside

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]


async def ping(network: AgentNetwork, mod: str | None = None, **payload: Any) -> Any:
    response = await network.process_event(
        Event("test.ping", "agent:alice", f"mod:{mod}" if mod else None, payload=payload)
    )
    return response.data if response.success else response


async def test_load_answer_unload(network: AgentNetwork, write_mod: WriteMod) -> None:
    loaded = await network.load_mod(write_mod("echo"), config={"public": True})
    assert loaded.success, loaded
    assert loaded.data["mod_id"] == "echo"
    assert loaded.data["mod_path"] == "./echo"
    details = network.get_loaded_mods()["echo"]
    assert (details["state"], details["pid"], details["version"]) == ("ready", loaded.data["pid"], "1.0")
    assert await ping(network, i=3) == {"pong": 3, "version": "1.0"}
    assert (await network.unload_mod("./echo")).success
    assert network.get_loaded_mods() == {}
    assert not psutil.pid_exists(loaded.data["pid"])
    assert (await ping(network)).error == "unknown_event"


@pytest.mark.parametrize("by", ["echo", "./echo"])
async def test_edited_code_is_picked_up_by_unload_and_load(network: AgentNetwork, write_mod: WriteMod, by: str) -> None:
    """Same size, within the same second: a bytecode cache would look valid."""
    source = ECHO.replace('"1.0"', "VERSION")
    for cycle in range(10):
        path = write_mod("echo", "from .helper import VERSION\n" + "\n".join(line[4:] for line in source.splitlines()),
                         helper=f"VERSION = 'v{cycle}'\n")  # fmt: skip
        assert (await network.load_mod(path)).success
        assert (await ping(network))["version"] == f"v{cycle}"
        assert (await network.unload_mod(by)).success


async def test_reload_takes_the_edited_code_and_hands_the_state_over(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    counter = """
        from modvisor.mods import BaseMod, EventResponse, mod_event_handler

        class Counter(BaseMod):
            version = "%s"
            count = 0

            def get_state(self):
                return {"count": self.count}

            def set_state(self, state, from_version):
                self.count, self.former = state["count"], from_version

            @mod_event_handler("test.count")
            async def count_up(self, event):
                self.count += 1
                return EventResponse(True, data=[self.count, self.version, getattr(self, "former", None)])
    """
    await network.load_mod(write_mod("counter", counter % "1"))
    first = await network.process_event(Event("test.count"))
    write_mod("counter", counter % "2")
    reloaded = await network.reload_mod("counter")
    assert reloaded.success, reloaded
    assert (reloaded.data["from"], reloaded.data["to"]) == ("1", "2")
    second = await network.process_event(Event("test.count"))
    assert (first.data, second.data) == ([1, "1", None], [2, "2", "1"])
    write_mod("counter", "this is no python (")
    broken = await network.reload_mod("counter")
    assert (broken.success, broken.error, broken.data["step"]) == (False, "import_failed", "import")
    third = await network.process_event(Event("test.count"))
    assert third.data == [3, "2", "1"]


async def test_a_restart_after_a_crash_runs_the_last_good_code_not_a_half_finished_edit(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    source = (
        ECHO
        + """
        @mod_event_handler("test.crash")
        async def crash(self, event):
            import os
            os._exit(3)
    """
    )
    await network.load_mod(write_mod("echo", source), delivery="at_most_once")
    write_mod("echo", "a half-finished edit (")
    crashed = await network.process_event(Event("test.crash"))
    assert (crashed.error, "exit code 3" in str(crashed.message)) == ("mod_crashed", True)
    assert await ping(network, i=1) == {"pong": 1, "version": "1.0"}
    assert network.get_network_stats()["mods"]["echo"]["restarts"] == 1


async def test_swap_puts_another_mod_in_the_place_of_one(network: AgentNetwork, write_mod: WriteMod) -> None:
    source = """
        from modvisor.mods import BaseMod, EventResponse, mod_event_handler

        class Counter(BaseMod):
            version = "%s"
            count = 0

            def get_state(self):
                return self.count

            def set_state(self, state, from_version):
                self.count = state

            @mod_event_handler("test.count")
            async def count_up(self, event):
                self.count += 1
                return EventResponse(True, data=[self.context.mod_id, self.version, self.count])
    """
    await network.load_mod(write_mod("counter_v1", source % "1"))
    await network.load_mod(write_mod("echo"))
    at_once = {"probation": None}
    await network.process_event(Event("test.count"))
    swapped = await network.swap_mod("counter_v1", write_mod("counter_v2", source % "2"), **at_once)
    assert swapped.success, swapped
    assert (swapped.data["mod_id"], swapped.data["former_id"]) == ("counter_v2", "counter_v1")
    assert list(network.get_loaded_mods()) == ["counter_v2", "echo"], "in the same place of the order"
    assert (await network.process_event(Event("test.count"))).data == ["counter_v2", "2", 2]
    assert network.get_network_stats()["mods"]["counter_v2"]["traffic"]["answered"] == 1
    assert (await network.process_event(Event("test.count", destination_id="mod:counter_v1"))).error == "no_such_mod"
    assert len(worker_pids()) == 2
    broken = await network.swap_mod("counter_v2", write_mod("broken", "1 / 0"))
    assert (broken.error, broken.data["step"]) == ("import_failed", "import")
    assert (await network.swap_mod("counter_v2", "./counter_v1", mod_id="echo")).error == "already_loaded"
    assert (await network.swap_mod("nobody", "./counter_v1")).error == "no_such_mod"
    assert (await network.process_event(Event("test.count"))).data == ["counter_v2", "2", 3]
    assert (await network.swap_mod("counter_v2", "./counter_v1", mod_id="counter_v2", **at_once)).data[
        "mod_id"
    ] == "counter_v2"
    assert (await network.process_event(Event("test.count"))).data == ["counter_v2", "1", 4]
    os.kill(network.get_loaded_mods()["counter_v2"]["pid"], 9)
    await until(lambda: network.get_network_stats()["mods"]["counter_v2"]["restarts"] == 1)
    assert (await network.process_event(Event("test.count"))).data == ["counter_v2", "1", 1]
    assert (await network.unload_mod("counter_v2")).success
    assert list(network.get_loaded_mods()) == ["echo"]


BASE = "from modvisor.mods import BaseMod\nclass Wiki(BaseMod):\n    "

BROKEN = {
    "import_error": ("import nothing_like_this\n", "import_failed", "mod.py:1: ModuleNotFoundError: No module named"),
    "syntax_error": ("x = (\n", "import_failed", "mod.py:1: SyntaxError"),
    "no_mod_class": ("x = 1\n", "no_mod_class", "no subclass of modvisor.mods.BaseMod"),
    "two_classes": (BASE + "pass\nclass Two(BaseMod): pass\n", "ambiguous_mod_class", "2 mod classes"),
    "sys_exit": ("import sys\nsys.exit(5)\n", "import_failed", "mod.py:2: the module called sys.exit(5)"),
    "os_exit": ("import os\nos._exit(5)\n", "start_failed", "the worker ended with exit code 5 before it was ready"),
    "abort": ("import os\nos.abort()\n", "start_failed", "the worker ended with signal SIGABRT"),
    "constructor": (BASE + "def __init__(self, network): pass\n", "initialize_failed", "the constructor takes no arguments"),
    "raises": (BASE + "def initialize(self):\n        return 1 / 0\n", "initialize_failed", "mod.py:4: ZeroDivisionError"),
    "returns_false": (BASE + "def initialize(self): return False\n", "initialize_failed", "Wiki.initialize() returned False"),
    "activate": (BASE + "async def activate(self): raise OSError('port 1 taken')\n", "initialize_failed", "port 1 taken"),
    "hangs": (BASE + "async def initialize(self):\n        import asyncio\n        await asyncio.Event().wait()\n",
              "start_timeout", "start timeout of 1 s"),
    "blocks": (BASE + "def initialize(self):\n        import threading\n        threading.Event().wait()\n",
               "start_timeout", "mod.py:5 in initialize"),
    "bad_handler": ("from modvisor.mods import BaseMod, mod_event_handler\nclass W(BaseMod):\n"
                    "    @mod_event_handler('Not.A.Name')\n    async def handle(self, event): pass\n",
                    "invalid_mod", "W.handle: pattern 'Not.A.Name'"),
    "patterns_flood": (BASE + "pass\nfrom modvisor.mods import mod_event_handler\nfor n in range(1100):\n"
                       "    setattr(Wiki, f'h{n}', mod_event_handler(f'a.b{n}')(lambda self, event: None))\n",
                       "protocol_error", "1100 patterns; the cap is 1000"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_mod_that_cannot_start_is_a_failed_response_and_leaves_nothing(
    network: AgentNetwork, write_mod: WriteMod, kind: str
) -> None:
    source, code, said = BROKEN[kind]
    path = write_mod("broken", source)
    before = open_files(), worker_pids()
    response = await network.load_mod(path, limits={"start_timeout": 1})
    assert (response.success, response.error) == (False, code), response
    assert said in str(response.message)
    assert "broken" in str(response.message)
    assert network.get_loaded_mods() == {}
    assert open_files() ^ before[0] == set()
    assert worker_pids() == before[1]
    write_mod("broken", ECHO)
    assert (await network.load_mod(path)).success, "the id is free again"


@pytest.mark.parametrize(
    ("path", "more", "code", "said"),
    [
        ("nowhere.at.all", {}, "import_failed", "no module named 'nowhere'"),
        ("./missing", {}, "bad_config", "missing"),
        ("../escape", {}, "bad_config", "expected 'pkg.mods.wiki', 'pkg.module:Class' or './name'"),
        ("./echo", {"mod_id": "Not OK"}, "bad_config", "Not OK"),
        ("./echo", {"limits": {"memory": "lots"}}, "bad_config", "lots"),
        ("./echo", {"config": {"x": object()}}, "bad_config", "x"),
        ("./echo", {"nonsense": 1}, "bad_config", "nonsense"),
    ],
)
async def test_bad_requests_to_load(
    network: AgentNetwork, write_mod: WriteMod, path: str, more: dict[str, Any], code: str, said: str
) -> None:
    write_mod("echo")
    response = await network.load_mod(path, **more)
    assert (response.success, response.error) == (False, code), response
    assert said in str(response.message)
    assert network.get_loaded_mods() == {}


async def test_unknown_twice_and_not_running(make_network: Callable[..., AgentNetwork], write_mod: WriteMod) -> None:
    network, path = make_network(), write_mod("echo")
    assert (await network.load_mod(path)).error == "not_running"
    assert (await network.process_event(Event("test.ping"))).error == "not_running"
    await network.initialize()
    assert (await network.unload_mod("echo")).error == "no_such_mod"
    assert (await network.reload_mod("echo")).error == "no_such_mod"
    assert (await network.load_mod(path)).success
    twice = await network.load_mod(path)
    assert (twice.error, "already loaded" in str(twice.message)) == ("already_loaded", True)
    assert (await network.load_mod(path, mod_id="echo2")).success
    assert list(network.get_loaded_mods()) == ["echo", "echo2"]
    await network.shutdown()
    await network.shutdown()
    assert (await network.process_event(Event("test.ping"))).error == "not_running"


async def test_loads_at_once_of_one_id_give_one_mod(network: AgentNetwork, write_mod: WriteMod) -> None:
    path = write_mod("echo")
    responses = await asyncio.gather(*(network.load_mod(path) for _ in range(4)))
    assert sorted(response.error or "" for response in responses) == ["", *["already_loaded"] * 3]
    assert len(worker_pids()) == 1


async def test_an_unload_cancels_a_load_that_is_under_way(network: AgentNetwork, write_mod: WriteMod) -> None:
    path = write_mod("slow", BROKEN["hangs"][0])
    load = asyncio.create_task(network.load_mod(path, limits={"start_timeout": 50}))
    await until(lambda: bool(worker_pids()))
    await network.unload_mod("slow")
    response = await load
    assert (response.success, response.error) == (False, "not_running")
    assert (network.get_loaded_mods(), worker_pids()) == ({}, set())


async def test_a_caller_that_gives_up_leaves_no_half_loaded_mod(network: AgentNetwork, write_mod: WriteMod) -> None:
    path = write_mod("slow", BROKEN["hangs"][0])
    load = asyncio.create_task(network.load_mod(path, limits={"start_timeout": 50}))
    await until(lambda: bool(worker_pids()))
    load.cancel()
    await asyncio.wait([load])
    assert network.get_loaded_mods() == {}
    await until(lambda: worker_pids() == set())  # a launch that is given up is cleared up by its warden


async def test_a_worker_that_refuses_to_end_is_killed_within_the_deadline(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    stubborn = (
        ECHO
        + """
        def shutdown(self):
            import signal, threading
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            threading.Event().wait()
    """
    )
    loaded = await network.load_mod(write_mod("stubborn", stubborn))
    async with asyncio.timeout(5):
        assert (await network.unload_mod("stubborn", timeout=0.4)).success
    assert not psutil.pid_exists(loaded.data["pid"])


async def test_kept_sources_that_cannot_be_removed_are_told_and_keep_no_worker(
    network: AgentNetwork, write_mod: WriteMod, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = await network.load_mod(write_mod("echo"), workers=2)
    kept = network.state_dir.snapshots / "echo#0.msgpack"
    kept.unlink()
    kept.mkdir()
    unloaded = await network.unload_mod("echo")
    assert unloaded.success, unloaded
    assert "mod echo#0: its kept sources cannot be removed" in caplog.text
    assert not any(map(psutil.pid_exists, loaded.data["pids"]))


async def test_until_the_network_has_ended_a_mod_can_come_back(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    """A supervisor that is killed while it shuts down starts again from the sources that it had kept."""
    path = write_mod(
        "late",
        """
        import time
        from pathlib import Path
        from modvisor.mods import BaseMod

        class Late(BaseMod):
            def shutdown(self):
                kept = Path(self.config["kept"])
                until = time.monotonic() + 0.2  # nothing would tell that it is not going to be removed
                while kept.exists() and time.monotonic() < until:
                    pass
                (self.context.storage_path / "seen").write_text(str(kept.exists()))
        """,
    )
    network = make_network()
    async with network:
        kept = network.state_dir.snapshots / "late.msgpack"
        seeing = {"files": "all"}
        assert (await network.load_mod(path, config={"kept": str(kept)}, sandbox=seeing)).success
        assert kept.exists()
        seen = network.state_dir.storage_of("late") / "seen"
    assert seen.read_text() == "True"
    assert not kept.exists(), "it ended by itself"


async def test_events_in_flight_finish_before_an_unload(network: AgentNetwork, write_mod: WriteMod) -> None:
    slow = """
        import asyncio
        from modvisor.mods import BaseMod, EventResponse, mod_event_handler

        class Slow(BaseMod):
            def initialize(self):
                self.go = asyncio.Event()

            @mod_event_handler("test.wait")
            async def wait(self, event):
                await self.go.wait()
                return EventResponse(True, data="finished")

            @mod_event_handler("test.go")
            async def let_go(self, event):
                asyncio.get_running_loop().call_later(0.05, self.go.set)
                return EventResponse(True)
    """
    await network.load_mod(write_mod("slow", slow))
    waiting = [asyncio.create_task(network.process_event(Event("test.wait"))) for _ in range(5)]
    assert (await network.process_event(Event("test.go"))).success
    assert (await network.unload_mod("slow")).success
    assert [(await task).data for task in waiting] == ["finished"] * 5


def threads() -> list[str]:
    """Those of anyio's pool left out: how many it needs depends on what comes together."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name != "AnyIO worker thread")


@pytest.mark.parametrize("cycles", [10, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(180)])])
async def test_cycles_of_load_and_unload_leave_nothing_behind(
    network: AgentNetwork, write_mod: WriteMod, cycles: int
) -> None:
    path, process = write_mod("echo"), psutil.Process()

    async def cycle() -> None:
        assert (await network.load_mod(path)).success
        assert await ping(network, i=1)
        assert (await network.unload_mod("echo")).success

    for _ in range(5):  # threads, caches and pools have come to their size
        await cycle()
    gc.collect()
    before = open_files(), child_pids(), threads(), len(asyncio.all_tasks())
    rss = process.memory_info().rss
    for _ in range(cycles):
        await cycle()
    gc.collect()
    assert (open_files(), child_pids(), threads(), len(asyncio.all_tasks())) == before
    assert process.memory_info().rss - rss < 5_000_000


async def test_children_of_a_mod_go_with_it(network: AgentNetwork, write_mod: WriteMod) -> None:
    parent = """
        import subprocess, sys
        from modvisor.mods import BaseMod, EventResponse, mod_event_handler

        class Parent(BaseMod):
            @mod_event_handler("test.spawn")
            async def spawn(self, event):
                child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
                return EventResponse(True, data=child.pid)
    """
    await network.load_mod(write_mod("parent", parent))
    worker = network.get_loaded_mods()["parent"]["pid"]
    child = beside((await network.process_event(Event("test.spawn"))).data, worker)
    assert psutil.pid_exists(child)
    await network.unload_mod("parent")
    await until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


# -- the network's own start


async def test_a_mod_of_the_file_that_fails_stays_listed_with_its_reason(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    mods = [write_mod("echo"), write_mod("broken", "1 / 0")]
    network = make_network(mods=mods)
    await network.initialize()
    assert {mod: details["state"] for mod, details in network.get_loaded_mods().items()} == {
        "echo": "ready",
        "broken": "failed",
    }
    stats = network.get_network_stats()["mods"]["broken"]
    assert "ZeroDivisionError" in stats["last_error"]
    answer = await network.process_event(Event("test.ping", destination_id="mod:broken"))
    assert (answer.error, "ZeroDivisionError" in str(answer.message)) == ("mod_away", True)
    write_mod("broken", ECHO)
    assert (await network.reload_mod("broken")).success
    assert network.get_loaded_mods()["broken"]["state"] == "ready"


async def test_a_required_mod_that_fails_fails_the_start_and_nothing_is_left(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    network = make_network(mods=[write_mod("echo"), {"path": write_mod("broken", "1 / 0"), "required": True}])
    before = child_pids()
    with pytest.raises(StartError, match="a required mod failed: mod broken"):
        await network.initialize()
    assert child_pids() == before
    write_mod("broken", ECHO.replace("Echo", "Fixed"))
    assert await network.initialize()


async def test_a_second_network_on_the_same_state_directory_is_refused(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    first, second = make_network(), make_network(mods=[write_mod("echo")])
    await first.initialize()
    before = child_pids()
    with pytest.raises(StateDirBusy, match=rf"belongs to a running network \(pid {os.getpid()}\)"):
        await second.initialize()
    assert child_pids() == before
    await first.shutdown()
    assert await second.initialize()


async def test_a_state_directory_that_cannot_be_used_is_named(
    make_network: Callable[..., AgentNetwork], tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("a file is in the way")
    network = make_network()
    with pytest.raises(StartError, match=rf"the state directory {tmp_path}/state cannot be used"):
        await network.initialize()
    (tmp_path / "state").unlink()
    assert await network.initialize()


async def test_initialize_and_shutdown_from_different_tasks(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    network = make_network(mods=[write_mod("echo")])
    await asyncio.create_task(network.initialize())
    assert await ping(network, i=1)
    await asyncio.create_task(network.shutdown())
    assert child_pids() == set()


async def test_a_shutdown_while_it_starts(make_network: Callable[..., AgentNetwork], write_mod: WriteMod) -> None:
    network = make_network(mods=[{"path": write_mod("slow", BROKEN["hangs"][0]), "limits": {"start_timeout": 50}}])
    start = asyncio.create_task(network.initialize())
    await until(lambda: bool(worker_pids()))
    await network.shutdown()
    await asyncio.wait([start])
    assert isinstance(start.exception(), StartError)
    assert child_pids() == set()


async def test_folders_with_spaces_and_umlauts(tmp_path: Path, write_mod: WriteMod) -> None:
    odd = tmp_path / "ein schöner Ordner"
    (odd / "mods" / "echo").mkdir(parents=True)
    (odd / "mods" / "echo" / "mod.py").write_text(
        (tmp_path / write_mod("echo").replace("./", "mods/") / "mod.py").read_text()
    )
    async with AgentNetwork.from_config({"network": {"name": "n"}, "mods": ["./echo"]}, base_dir=odd) as network:
        assert await ping(network, i=1) == {"pong": 1, "version": "1.0"}
