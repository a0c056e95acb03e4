"""What is over a limit fails by itself: softly where the kernel lets it, else by the end of that mod alone."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until
from tests.pids import heard
from tests.processes.test_events import load

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

FORKS = 400  # no test lets a bomb grow beyond: one that fails must not take the machine with it


@asynccontextmanager
async def answering(network: AgentNetwork) -> AsyncIterator[list[float]]:
    """Another mod is asked again and again meanwhile; every answer must be right. Gives the seconds each took."""
    took: list[float] = []
    over = asyncio.Event()

    async def ask() -> None:
        while not over.is_set():
            began = time.perf_counter()
            response = await network.process_event(Event("test.ping", "agent:alice", payload={"i": len(took)}))
            assert response.success, response
            assert response.data["pong"] == len(took)
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0.005)

    asking = asyncio.create_task(ask())
    try:
        yield took
    finally:
        over.set()
        await asking
    assert took


async def load_both(network: AgentNetwork, write_mod: WriteMod, body: str, limits: dict[str, Any], **more: Any) -> int:
    """The mod that goes wrong and the one beside it; returns the pid of the former."""
    assert (await network.load_mod(write_mod("echo"))).success
    sane = """
        @mod_event_handler("mad.sane")
        async def sane(self, event):
            return EventResponse(True, data=f"{os.getpid()} {os.stat('/proc/self/ns/pid').st_ino}")
"""
    # What it dies of is not tried again: one bomb per test is enough.
    more = {"delivery": "at_most_once", **more}
    await load(network, write_mod, "mad", f"{body}\n{sane}", limits=limits, **more)
    return heard((await network.process_event(Event("mad.sane"))).data)


async def crash_of(network: AgentNetwork) -> dict[str, Any]:
    await until(lambda: bool(network.get_crashes("mad")), timeout=30)
    return network.get_crashes("mad")[0]


async def is_same(network: AgentNetwork, pid: int) -> bool:
    return heard((await network.process_event(Event("mad.sane"))).data) == pid


def go(timeout: float = 30.0, **payload: Any) -> Event:
    return Event("mad.go", "agent:alice", payload=payload, timeout=timeout)


# -- softly: the event fails, the mod lives

SOFT = {
    "ten gigabytes in one statement": (
        "x = bytearray(10_000_000_000)", {"memory": 300_000_000}, "memory (300.0 MB)", "MemoryError",
    ),
    "a list that grows": (
        "x = []\n            while True: x.append('x' * 10_000)", {"memory": 200_000_000}, "memory (200.0 MB)", "MemoryError",
    ),
    "small things that hold one another": (
        "x = None\n            while True: x = [x]", {"memory": 100_000_000}, "memory (100.0 MB)", "MemoryError",
    ),
    "descriptors": (
        "x = []\n            while True: x.append(open('/dev/null'))",
        {"open_files": 64}, "open_files (64)", "Too many open files",
    ),
    "one large file": (
        "with open(self.context.storage_path / 'large', 'wb') as file:\n"
        "                for _ in range(100): file.write(bytes(1_000_000)); file.flush()",
        {"disk": 20_000_000}, "disk (20.0 MB)", "File too large",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["async def", pytest.param("def", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "doing",
    [pytest.param(doing, marks=pytest.mark.slow if doing.startswith("small things") else ()) for doing in SOFT],
)
async def test_a_handler_that_wants_too_much_fails_and_its_mod_lives(
    network: AgentNetwork, write_mod: WriteMod, doing: str, kind: str
) -> None:
    code, limits, named, raised = SOFT[doing]
    pid = await load_both(network, write_mod, f"""
        @mod_event_handler("mad.go")
        {kind} go(self, event):
            {code}
    """, limits)  # fmt: skip
    for _ in range(3):
        async with answering(network):
            failed = await network.process_event(go())
        assert failed.error == "limit_hit", failed
        assert named in str(failed.message)
        assert raised in str(failed.message)
        if "small" not in doing:  # there was no memory for the frame of the handler either
            assert "mods/mad/mod.py:" in str(failed.message), "the line that did it"
        assert await is_same(network, pid)
    assert network.get_crashes() == []


async def test_what_a_handler_had_collected_is_given_back(network: AgentNetwork, write_mod: WriteMod) -> None:
    pid = await load_both(network, write_mod, """
        @mod_event_handler("mad.go")
        async def go(self, event):
            x = []
            while True: x.append(bytes(1_000_000))
    """, {"memory": 200_000_000})  # fmt: skip
    assert (await network.process_event(go())).error == "limit_hit"
    assert psutil.Process(pid).memory_info().rss < 100_000_000


# -- the end of that mod alone


@pytest.mark.slow
async def test_many_processes_that_are_over_the_memory_limit_together(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    """Each far below the limit of one process, so that only the sum is over it."""
    limits = {"memory": 250_000_000}
    pid = await load_both(network, write_mod, """
        @mod_event_handler("mad.go")
        async def go(self, event):
            import subprocess, sys
            code = "held = []\\nfor _ in range(60): held.append(b'x' * 1_000_000); import time; time.sleep(0.02)"
            code += "\\ntime.sleep(60)"
            children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(6)]
            await asyncio.Event().wait()
    """, limits)  # fmt: skip
    children = psutil.Process(pid).children
    async with answering(network):
        doing = asyncio.create_task(network.process_event(go()))
        await until(lambda: len(children()) == 6)
        left = children()
        assert (await doing).error == "mod_crashed"
    report = await crash_of(network)
    assert report["cause"] == "limit_hit"
    assert report["detail"].startswith("memory: used ")
    assert report["detail"].endswith(" of 250.0 MB")
    assert [event["event_name"] for event in report["in_flight"]] == ["mad.go"]
    await until(lambda: not any(is_alive(child) for child in left))
    assert (await network.process_event(Event("mad.sane"))).success, "it is back"


async def test_processes_that_share_their_pages_are_not_over_it(network: AgentNetwork, write_mod: WriteMod) -> None:
    """Six forks of 60 MB are resident with 360 MB and use 60."""
    limits = {"memory": 250_000_000}
    pid = await load_both(network, write_mod, f"""
        @mod_event_handler("mad.go")
        async def go(self, event):
            held = b"x" * 60_000_000
            for _ in range(6):
                if os.fork() == 0:
                    {_held_open()}
            return EventResponse(True)
    """, limits)  # fmt: skip
    assert (await network.process_event(go())).success
    await asyncio.to_thread(watchdog_of(network).sample_all)
    assert network.get_network_stats()["mods"]["mad"]["resources"]["rss"] > 300_000_000
    assert await is_same(network, pid)


async def test_a_fork_bomb(network: AgentNetwork, write_mod: WriteMod) -> None:
    pid = await load_both(network, write_mod, f"""
        @mod_event_handler("mad.go")
        async def go(self, event):
            for _ in range({FORKS}):
                if os.fork() == 0:
                    {_held_open()}
            await asyncio.Event().wait()
    """, {"processes": 50})  # fmt: skip
    bomb = await network.process_event(Event("mad.sane"))
    assert heard(bomb.data) == pid
    async with answering(network):
        began = time.monotonic()
        assert (await network.process_event(go())).error == "mod_crashed"
        took = time.monotonic() - began
    report = await crash_of(network)
    assert report["cause"] == "limit_hit"
    assert report["detail"].startswith("processes: ")
    assert report["detail"].endswith(" of 50")
    assert took < 2.0
    await until(lambda: not [process for process in psutil.process_iter() if _group(process.pid) == pid])
    assert (await network.process_event(Event("mad.sane"))).success, "it is back"


async def test_a_leak_of_threads(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load_both(network, write_mod, """
        @mod_event_handler("mad.go")
        async def go(self, event):
            for _ in range(300):
                threading.Thread(target=threading.Event().wait, daemon=True).start()
            await asyncio.Event().wait()
    """, {"threads": 60})  # fmt: skip
    async with answering(network):
        answer = await network.process_event(go())
    if "RLIMIT_NPROC" in network.get_network_stats()["mods"]["mad"]["limits"]["threads"]["enforced_by"]:
        assert answer.error == "limit_hit", "softly, where the kernel counts them for us"
        assert "threads" in str(answer.message)
        return
    assert answer.error == "mod_crashed"
    report = await crash_of(network)
    assert report["cause"] == "limit_hit"
    assert report["detail"].startswith("threads: ")
    assert report["detail"].endswith(" of 60")


async def test_many_small_files(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load_both(network, write_mod, """
        @mod_event_handler("mad.go")
        async def go(self, event):
            for number in range(40):
                (self.context.storage_path / str(number)).write_bytes(bytes(500_000))
            await asyncio.Event().wait()
    """, {"disk": 5_000_000}, restart={"policy": "temporary"})  # fmt: skip
    async with answering(network):
        assert (await network.process_event(go())).error == "mod_crashed"
    report = await crash_of(network)
    assert report["cause"] == "limit_hit"
    assert report["detail"].startswith("disk: used 20.")
    assert report["detail"].endswith(" of 5.0 MB")


async def test_processor_time_that_is_used_up(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load_both(network, write_mod, """
        @mod_event_handler("mad.go")
        async def go(self, event):
            while True: pass
    """, {"cpu_seconds": 1})  # fmt: skip
    async with answering(network):
        assert (await network.process_event(go())).error == "mod_crashed"
    report = await crash_of(network)
    assert report["cause"] in ("limit_hit", "cpu_limit")
    assert "SIGXCPU" in report["detail"] or "cpu_seconds" in report["detail"]


async def test_a_mod_that_bursts_while_it_starts(network: AgentNetwork, write_mod: WriteMod) -> None:
    path = write_mod("mad", f"""
        import os
        from modvisor.mods import BaseMod
        class Mad(BaseMod):
            def initialize(self):
                for _ in range({FORKS}):
                    if os.fork() == 0:
                        {_held_open()}
                while True: pass
    """)  # fmt: skip
    response = await network.load_mod(path, limits={"processes": 50})
    assert response.error == "limit_hit"
    assert "processes: " in str(response.message)
    assert network.get_loaded_mods() == {}


# -- above the soft limit


async def test_a_mod_that_leaks_is_replaced_and_no_event_is_lost(network: AgentNetwork, write_mod: WriteMod) -> None:
    former = await load_both(network, write_mod, """
        def initialize(self):
            self.count, self.leak = 0, []

        def get_state(self):
            return self.count

        def set_state(self, state, from_version):
            self.count = state

        @mod_event_handler("mad.go")
        async def go(self, event):
            self.count += 1
            number = self.count
            self.leak.append(b"x" * 500_000)
            await asyncio.sleep(0.002)
            return EventResponse(True, data=number)
    """, {"memory_soft": 100_000_000, "memory": 1_000_000_000})  # fmt: skip
    stats = lambda: network.get_network_stats()["mods"]["mad"]  # noqa: E731
    counted = []
    async with answering(network):
        while not stats()["recycled"]:
            for answer in await asyncio.gather(*(network.process_event(go()) for _ in range(4))):
                assert answer.success, answer
                counted.append(answer.data)
    assert sorted(counted) == list(range(1, len(counted) + 1)), "each once, and the state was handed over"
    assert network.get_crashes() == []
    assert stats()["pid"] != former
    assert stats()["restarts"] == 0


# -- behind the others


@pytest.mark.slow
async def test_a_spinner_gets_what_others_leave_over_until_it_stops(
    network: AgentNetwork, write_mod: WriteMod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long it must be over or below its share is tested where it is decided; here it happens sooner."""
    sooner = {
        "watchdog.SAMPLE_INTERVAL": 0.1, "watchdog.SAMPLE_SHARE": 1,
        "over_limit.IDLE_AFTER": 0.3, "over_limit.SHARE_AFTER": 0.3,
    }  # fmt: skip
    for name, seconds in sooner.items():
        monkeypatch.setattr(f"modvisor.supervisor.limits.{name}", seconds)
    pid = await load_both(network, write_mod, """
        def activate(self):
            self.spinning = threading.Event()
            threading.Thread(target=self.spin, daemon=True).start()

        def spin(self):
            while True:
                self.spinning.wait()
                sum(range(10_000))

        @mod_event_handler("mad.go")
        async def go(self, event):
            (self.spinning.set if event.payload["spin"] else self.spinning.clear)()
            return EventResponse(True)
    """, {"cpu": 0.3})  # fmt: skip
    threads = [thread.id for thread in psutil.Process(pid).threads()]
    assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
    async with answering(network):
        assert (await network.process_event(go(spin=True))).success
        await until(lambda: watchdog_of(network).is_idle(pid), timeout=20)
        threads = [thread.id for thread in psutil.Process(pid).threads()]
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_IDLE}
        assert await is_same(network, pid), "it still answers"
        assert (await network.process_event(go(spin=False))).success
        if os.geteuid() == 0:  # others may not come back before their next process
            await until(lambda: not watchdog_of(network).is_idle(pid), timeout=30)
            threads = [thread.id for thread in psutil.Process(pid).threads()]
            assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
    assert network.get_crashes() == []


# -- what is said of it


async def test_stats_say_what_enforces_each_limit(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load_both(network, write_mod, "", {"memory": 500_000_000, "disk": 1_000_000_000, "threads": None})
    limits = network.get_network_stats()["mods"]["mad"]["limits"]
    assert limits["memory"]["limit"] == 500_000_000
    assert "RLIMIT_DATA of each process" in limits["memory"]["enforced_by"]
    assert limits["open_files"] == {"limit": 1024, "enforced_by": "RLIMIT_NOFILE of each process"}
    assert "watchdog" in limits["processes"]["enforced_by"]
    assert limits["threads"] == {"limit": None, "enforced_by": None}
    assert limits["cpu"] == {"limit": None, "enforced_by": None}
    assert limits["cpu_seconds"] == {"limit": None, "enforced_by": None}


async def test_nothing_is_left_of_the_groups(make_network: Callable[..., AgentNetwork], write_mod: WriteMod) -> None:
    network = make_network({"id": "grouped"})
    await network.initialize()
    pid = await load_both(network, write_mod, "", {})
    group = enforcement_of(network).cgroups.path
    if group is None:
        pytest.skip(f"no cgroups here: {enforcement_of(network).cgroups.reason}")
    assert pid in {int(line) for line in (group / "mad.1" / "cgroup.procs").read_text().split()}
    assert (await network.restart_mod("mad")).success
    await until(lambda: not (group / "mad.1").exists())
    assert (group / "mad.2").exists()
    await network.unload_mod("mad")
    await until(lambda: not (group / "mad.2").exists())
    await network.shutdown()
    assert not group.exists()


async def test_cgroups_may_be_switched_off(make_network: Callable[..., AgentNetwork], write_mod: WriteMod) -> None:
    network = make_network({"cgroups": False})
    await network.initialize()
    await load_both(network, write_mod, "", {})
    assert enforcement_of(network).cgroups.path is None
    assert "cgroups: false" in str(enforcement_of(network).cgroups.reason)


def enforcement_of(network: AgentNetwork) -> Any:
    assert network._parts is not None
    return network._parts.enforcement


def watchdog_of(network: AgentNetwork) -> Any:
    return enforcement_of(network).watchdog


def _held_open() -> str:
    """What a forked child does: nothing, until it is killed."""
    return "import signal; signal.pause(); os._exit(0)"


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except OSError:
        return -1


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
