"""What one mod does, the network and the other mods do not feel. And what many agents and events do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests import warm
from tests.conftest import ECHO, until
from tests.processes.test_events import load

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

MISCHIEF = {
    "exit": "os._exit(3)",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "spin": "while True: pass",
    "abort": "os.abort()",
    "kill": "os.kill(os.getpid(), 9)",
    "garbage": "[os.write(int(fd), b'garbage' * 10) for fd in os.listdir('/proc/self/fd') "
    "if os.path.exists(f'/proc/self/fd/{fd}') and 'socket' in os.readlink(f'/proc/self/fd/{fd}')]; "
    "await asyncio.Event().wait()",
    "close": "os.closerange(3, 100); await asyncio.Event().wait()",
    "memory": "x = bytearray(10_000_000_000)",
}


CRASHES = {
    "exit": ("exited", "exit code 3"),
    "segfault": ("signal", "SIGSEGV"),
    "spin": ("hang", "blocked for more than 0.4 s"),
    "abort": ("signal", "SIGABRT"),
    "kill": ("signal", "SIGKILL"),
    "garbage": ("protocol_violation", "broke the protocol"),
    "close": ("exited", "exit code 1"),
}


@pytest.mark.parametrize("kind", MISCHIEF)
async def test_while_one_mod_goes_mad_another_answers_all_the_time(
    network: AgentNetwork, write_mod: WriteMod, kind: str
) -> None:
    await network.load_mod(write_mod("echo"))
    limits = {"hang_timeout": 0.4, "memory": 500_000_000 if kind == "memory" else None}
    await load(network, write_mod, "mad", f"""
        @mod_event_handler("mad.go")
        async def go(self, event):
            {MISCHIEF[kind]}

        @mod_event_handler("mad.sane")
        async def sane(self, event):
            return EventResponse(True, data=os.getpid())
    """, limits={key: value for key, value in limits.items() if value is not None})  # fmt: skip
    mad = asyncio.create_task(network.process_event(Event("mad.go", "agent:alice", timeout=20)))
    answered = 0
    while not mad.done():
        response = await network.process_event(Event("test.ping", "agent:alice", payload={"i": answered}))
        assert response.data == {"pong": answered, "version": "1.0"}
        answered += 1
    failed = await mad
    assert failed.error == ("limit_hit" if kind == "memory" else "dead_lettered"), failed
    assert "mad" in str(failed.message)
    reports = network.get_crashes("mad")
    if kind != "memory":
        # A mod that has ended its pipe works on until it is killed. If it waits then, nothing names the event, and one
        # death more is needed.
        assert len(reports) in ((2, 3) if kind in ("garbage", "close") else (2,))
        assert not reports[0]["alone"]
        assert all(report["alone"] for report in reports[1:]), "tried again alone, and found guilty"
        report = reports[1]
        cause, detail = CRASHES[kind]
        assert report["cause"] == cause
        assert detail in report["detail"]
        assert [event["event_name"] for event in report["in_flight"]] == ["mad.go"]
        assert report["in_flight_count"] == 1
        if kind in ("segfault", "spin", "abort"):
            assert "mods/mad/mod.py" in report["traceback"], "the line that did it"
    if kind == "spin":
        assert "its event loop was blocked for more than 0.4 s" in str(failed.message)
    assert answered > 0
    assert (await network.process_event(Event("mad.sane", "agent:alice"))).success, "it is back"
    stats = network.get_network_stats()["mods"]
    assert stats["mad"]["restarts"] == (0 if kind == "memory" else sum(not report["trial"] for report in reports))
    assert stats["echo"]["restarts"] == 0


async def test_a_worker_killed_from_outside_is_noticed_and_replaced(network: AgentNetwork, write_mod: WriteMod) -> None:
    loaded = await network.load_mod(write_mod("echo"))
    os.kill(loaded.data["pid"], signal.SIGKILL)
    answer = await network.process_event(Event("test.ping", "agent:alice", payload={"i": 1}))
    assert answer.data["pong"] == 1
    stats = network.get_network_stats()["mods"]["echo"]
    assert stats["pid"] != loaded.data["pid"]
    assert "signal SIGKILL" in stats["last_error"]


async def test_a_worker_whose_pipe_broke_did_not_end_cleanly(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "shut", """
        @mod_event_handler("shut.go")
        async def go(self, event):
            if event.attempt == 1:
                self.context._pipe._sock.shutdown(2)
            return EventResponse(True, data=event.attempt)
    """, restart={"policy": "transient"})  # fmt: skip
    assert (await network.process_event(Event("shut.go", "agent:alice"))).data == 2
    (report,) = network.get_crashes("shut")
    assert (report["cause"], report["detail"]) == ("exited", "exit code 1")


async def test_a_mod_that_keeps_ending_is_quarantined_and_says_why(network: AgentNetwork, write_mod: WriteMod) -> None:
    restart = {"max_restarts": 2, "first_delay": 0.01, "max_delay": 0.02}
    await load(network, write_mod, "dying", """
        @mod_event_handler("dying.go")
        async def go(self, event):
            os._exit(7)
    """, restart=restart)  # fmt: skip
    for _ in range(2):
        assert (await network.process_event(Event("dying.go"))).error == "dead_lettered"
    assert (await network.process_event(Event("dying.go"))).error == "mod_crashed", "the third is one too many"
    await until(lambda: network.get_loaded_mods()["dying"]["state"] == "quarantined")
    refused = await network.process_event(Event("dying.go", destination_id="mod:dying"))
    assert refused.error == "mod_away"
    assert "quarantined" in str(refused.message)
    assert "exit code 7" in str(refused.message)
    assert (await network.reload_mod("dying")).success, "a person may bring it back"
    assert network.get_loaded_mods()["dying"]["state"] == "ready"


async def test_a_stopped_worker_is_told_as_stopped_and_killed_though_it_cannot_dump(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    loaded = await network.load_mod(write_mod("echo"), limits={"hang_timeout": 0.3})
    os.kill(loaded.data["pid"], signal.SIGSTOP)
    await until(lambda: bool(network.get_crashes("echo")))
    (report,) = network.get_crashes("echo")
    assert (report["cause"], report["traceback"]) == ("stopped", None)
    assert "was stopped by a signal (SIGSTOP, SIGTSTP) when it did not answer for 0.3 s" in report["detail"]
    assert (await network.process_event(Event("test.ping", "agent:alice", payload={"i": 1}))).success


@pytest.mark.slow
async def test_a_supervisor_that_stood_still_itself_blames_nobody(network: AgentNetwork, write_mod: WriteMod) -> None:
    """As when a machine is suspended: the ping is unanswered far beyond its time, and nobody could have answered it."""
    loaded = await network.load_mod(write_mod("echo"), limits={"hang_timeout": 0.4})
    pid = loaded.data["pid"]
    channel = network._running().mods.find("echo").incarnation.pipe
    for _ in range(3):
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: channel.in_flight == 1)  # a ping
        time.sleep(1.0)  # both stand still
        os.kill(pid, signal.SIGCONT)
        await until(lambda: channel.in_flight == 0)
    assert network.get_crashes("echo") == []
    assert network.get_loaded_mods()["echo"]["pid"] == pid


async def test_restart_brings_the_last_good_version_back(network: AgentNetwork, write_mod: WriteMod) -> None:
    path = write_mod("echo")
    first = await network.load_mod(path)
    write_mod("echo", "a half-finished edit (")
    restarted = await network.restart_mod("echo")
    assert restarted.success, restarted
    assert restarted.data["pid"] != first.data["pid"]
    answer = await network.process_event(Event("test.ping", "agent:alice", payload={"i": 1}))
    assert answer.data == {"pong": 1, "version": "1.0"}
    assert network.get_crashes() == []
    assert (await network.restart_mod("nobody")).error == "no_such_mod"


async def test_a_restart_that_fails_is_reported(network: AgentNetwork, write_mod: WriteMod) -> None:
    once = ECHO.replace("class Echo(BaseMod):", """class Echo(BaseMod):
        def initialize(self):
            mark = self.context.storage_path / "started"
            if mark.exists():
                raise RuntimeError("only once")
            mark.touch()
""")  # fmt: skip
    loaded = await network.load_mod(write_mod("echo", once), restart={"max_restarts": 1, "first_delay": 0.01})
    assert loaded.success, loaded
    os.kill(loaded.data["pid"], signal.SIGKILL)
    await until(lambda: network.get_loaded_mods()["echo"]["state"] == "quarantined")
    reports = network.get_crashes("echo")
    assert [report["cause"] for report in reports] == ["signal", "start_failure"]
    assert "only once" in reports[1]["detail"]
    assert "RuntimeError: only once" in reports[1]["traceback"]
    stats = network.get_network_stats()["mods"]["echo"]
    assert stats["crashes"] == 2
    assert stats["last_crash"]["cause"] == "start_failure"


async def test_stats_name_what_a_mod_uses(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("echo"))
    for i in range(10):
        await network.process_event(Event("test.ping", "agent:alice", payload={"i": i}))
    await network.sample_resources()
    await network.sample_resources()
    stats = json.loads(json.dumps(network.get_network_stats()))
    mod, worker = stats["mods"]["echo"], psutil.Process(stats["mods"]["echo"]["pid"])
    resources, traffic = mod["resources"], mod["traffic"]
    assert abs(resources["rss"] - worker.memory_info().rss) < 10_000_000
    assert resources["threads"] == worker.num_threads()
    assert resources["open_files"] == worker.num_fds()
    assert resources["uss"] > 1_000_000
    assert resources["cpu_percent"] >= 0
    assert resources["children"] == 0
    assert (traffic["events_in"], traffic["answered"], traffic["in_flight"], traffic["queue_depth"]) == (10, 10, 0, 0)
    assert 0 < traffic["latency_p50_ms"] <= traffic["latency_p99_ms"]
    assert stats["supervisor"]["pid"] == os.getpid()
    assert stats["supervisor"]["rss"] > 10_000_000
    assert stats["dynamic_mods"]["count"] == 1
    assert stats["dynamic_mods"]["details"]["echo"]["mod_path"] == "./echo"


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_thousand_agents_and_a_hundred_thousand_events(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    """Every one answered or delivered, none twice: the mod and the inboxes keep count."""
    network = make_network(agents={"inbox_size": 1000})
    await network.initialize()
    await load(network, write_mod, "ledger", """
        def initialize(self):
            self.seen = {}

        @mod_event_handler("ledger.entry")
        async def enter(self, event):
            key = event.payload["n"]
            self.seen[key] = self.seen.get(key, 0) + 1
            return EventResponse(True, data=key)

        @mod_event_handler("ledger.total")
        async def total(self, event):
            return EventResponse(True, data=[len(self.seen), max(self.seen.values())])
    """)  # fmt: skip
    agents = [f"agent{n}" for n in range(1000)]
    for agent in agents:
        assert (await network.register_agent(agent)).success

    outcomes: Counter[str] = Counter()

    async def replay(agent: int) -> None:
        for n in range(100):
            number = agent * 100 + n
            if n % 2:
                event = Event("ledger.entry", agents[agent], payload={"n": number})
            else:
                event = Event("chat.message", agents[agent], agents[(agent + 1 + n) % 1000], payload={"n": number})
            response = await network.process_event(event)
            assert response.success, response
            outcomes["answered" if n % 2 else "delivered"] += 1 if n % 2 else response.data["delivered"]

    for batch in range(0, 1000, 100):
        await asyncio.gather(*(replay(agent) for agent in range(batch, batch + 100)))
    assert outcomes == {"answered": 50_000, "delivered": 50_000}
    assert (await network.process_event(Event("ledger.total"))).data == [50_000, 1]
    received = [event.payload["n"] for agent in agents for event in await network.poll_events(agent)]
    assert len(received) == len(set(received)) == 50_000


async def test_a_foreign_worker_that_breaks_the_protocol_from_the_start_is_refused(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod
) -> None:
    """A mod that writes into its worker's pipe while it is imported: a protocol error, said so, and nothing left."""
    network = make_network()
    await network.initialize()
    path = write_mod("liar", """
        import os
        for fd in range(3, 64):
            try:
                if "socket" in os.readlink(f"/proc/self/fd/{fd}"):
                    os.write(fd, b"\\x00\\x00\\x00\\x01\\xc1")
            except OSError:
                pass
    """)  # fmt: skip
    response = await network.load_mod(path)
    assert not response.success
    assert response.error in ("start_failed", "protocol_error")
    assert "broke the protocol" in str(response.message)
    assert network.get_loaded_mods() == {}


@pytest.mark.parametrize("doing", ["nothing", "spin", "stopped", "deaf"])
async def test_workers_do_not_outlive_a_supervisor_that_is_killed(
    tmp_path: Path, write_mod: WriteMod, doing: str
) -> None:
    write_mod("orphan", f"""
        import os, signal, subprocess, sys, threading
        from modvisor.mods import BaseMod

        class Orphan(BaseMod):
            def activate(self):
                self.child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
                threading.Timer(0.05, self.go).start()

            def go(self):
                if {doing!r} == "spin":
                    while True: pass
                if {doing!r} == "stopped":
                    os.kill(os.getpid(), signal.SIGSTOP)

            def shutdown(self):
                if {doing!r} == "deaf":
                    threading.Event().wait()
    """)  # fmt: skip
    script = """
import asyncio, sys, threading
from modvisor.supervisor import AgentNetwork

async def main():
    async with AgentNetwork.from_config({"network": {"name": "n"}, "mods": ["./orphan"]}, base_dir=sys.argv[1]) as network:
        print(network.get_loaded_mods()["orphan"]["pid"], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    with warm.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE) as supervisor:
        try:
            assert supervisor.stdout is not None
            worker = psutil.Process(int(supervisor.stdout.readline()))
            await until(lambda: bool(worker.children()))
            (child,) = worker.children()
            if doing == "stopped":
                await until(lambda: worker.status() == psutil.STATUS_STOPPED)
        finally:
            supervisor.kill()
    await until(lambda: not is_alive(worker) and not is_alive(child), timeout=3)


def is_alive(process: psutil.Process) -> bool:
    """Running, and more than a zombie that its new parent has not reaped."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
