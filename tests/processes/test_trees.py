"""Whatever a mod starts, however it hides it: it ends with the mod, and with the supervisor, and disturbs nobody else's."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests import warm
from tests.conftest import ECHO, until
from tests.pids import outside
from tests.processes.conftest import Marked

pytestmark = [
    pytest.mark.usefixtures("started_guardians"),
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="needs a guardian"),
]

WriteMod = Callable[..., str]

SECOND = 1.0
"""In which all must be gone after the supervisor was killed."""

WAIT = "import threading; threading.Event().wait()"

# What a mod leaves around. Each process says so by a file of its own.
LEAVE = """
    import os, signal, subprocess, sys, threading, time
    from pathlib import Path
    from modvisor.mods import BaseMod, Event, EventResponse, mod_event_handler

    MARKS = Path({marks!r})

    def mark():
        own = MARKS / str(os.getpid())
        new = own.with_suffix(".new")
        new.write_text(f"{{os.getpid()}} {{os.stat('/proc/self/ns/pid').st_ino}}")
        new.rename(own)

    def in_session():
        if os.fork() == 0:
            os.setsid()
            mark()
            threading.Event().wait()

    def forked_twice(then=lambda: threading.Event().wait()):
        if (middle := os.fork()) == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                mark()
                then()
            os._exit(0)
        os.waitpid(middle, 0)

    def stop():
        os.kill(os.getpid(), signal.SIGSTOP)

    def bomb(depth):
        # A tree of sessions; each of its processes goes on forking, and every child of that is abandoned too.
        if os.getsid(0) != os.getpid():
            os.setsid()
        mark()
        for _ in range(2 if depth else 0):
            if os.fork() == 0:
                bomb(depth - 1)
        while True:
            if os.fork() == 0:
                time.sleep(0.05)
                os._exit(0)
            time.sleep(0.05)
            os.waitpid(-1, os.WNOHANG)

    class Leaver(BaseMod):
        def activate(self):
            mark()
            in_session()
            forked_twice()
            forked_twice(stop)
            if {doing!r} == "bomb":
                forked_twice(lambda: bomb(6))
            threading.Timer(0.05, self.go).start()

        def go(self):
            if {doing!r} == "spin":
                while True: pass
            if {doing!r} == "stopped":
                stop()

        def shutdown(self):
            if {doing!r} == "deaf":
                threading.Event().wait()
"""

MARKED = {"bomb": 4 + 127}  # processes that leave a mark; 4: the worker, and one for each way to leave

SUPERVISOR = '''
import asyncio, os, signal, sys
from modvisor.supervisor import AgentNetwork

def hold():
    """A process that the supervisor forks has copies of all its descriptors."""
    if (holder := os.fork()) == 0:
        signal.pause()
    return holder

async def main():
    mods = [{"path": path, "id": f"m{n}"} for n, path in enumerate(sys.argv[2:])]
    async with AgentNetwork.from_config({"network": {"name": "n"}, "mods": mods}, base_dir=sys.argv[1]) as network:
        print(network._parts.mods._shared.launcher._guardian.pid, flush=True)
        if "PYTHONHOLD" in os.environ:
            print(hold(), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
'''


@contextmanager
def supervisor(tmp_path: Path, marked: Marked, *mods: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A supervisor in a process of its own; killed at the end."""
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path), *mods]
    environ = {**os.environ, **marked.variable, **variables}
    with warm.Popen(command, stdout=subprocess.PIPE, env=environ) as popen:
        try:
            yield popen
        finally:
            popen.kill()


def pid_from(popen: subprocess.Popen[str]) -> int:
    """The next one it prints: the guardian's, first."""
    assert popen.stdout is not None
    return int(popen.stdout.readline())


def leaver(tmp_path: Path, doing: str = "nothing") -> tuple[str, Callable[[], list[int]]]:
    """The source of a mod that leaves processes behind, and what shows their pids."""
    marks = tmp_path / "marks"
    marks.mkdir(exist_ok=True)
    source = textwrap.dedent(LEAVE).format(marks=str(marks), doing=doing)
    known: dict[tuple[int, int], int] = {}

    def pids() -> list[int]:
        said = [file.read_text().split() for file in marks.iterdir() if not file.suffix]
        if fresh := {(int(inner), int(of)) for inner, of in said} - known.keys():
            known.update(outside(fresh))
        return list(known.values())

    return source, pids


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize(
    "doing",
    [
        "spin",
        *(pytest.param(doing, marks=pytest.mark.slow) for doing in ("nothing", "stopped", "deaf")),
        pytest.param("bomb", marks=pytest.mark.slow),
    ],
)
async def test_nothing_outlives_a_supervisor_that_is_killed(
    tmp_path: Path, write_mod: WriteMod, marked: Marked, doing: str
) -> None:
    source, marks = leaver(tmp_path, doing)
    with supervisor(tmp_path, marked, write_mod("leaver", source)) as popen:
        pid_from(popen)
        await until(lambda: len(marks()) >= MARKED.get(doing, 4), timeout=40)
        worker = min(marks())
        if doing == "stopped":
            await until(lambda: psutil.Process(worker).status() == psutil.STATUS_STOPPED)
        popen.kill()
        await marked.gone_within(3 * SECOND if doing == "bomb" else SECOND)
    assert all(is_gone(pid) for pid in marks())


@pytest.mark.slow
async def test_a_supervisor_whose_sockets_another_process_holds(
    tmp_path: Path, write_mod: WriteMod, marked: Marked
) -> None:
    """It is dead all the same."""
    source, marks = leaver(tmp_path)
    with supervisor(tmp_path, marked, write_mod("leaver", source), PYTHONHOLD="1") as popen:
        pid_from(popen)
        holder = pid_from(popen)
        await until(lambda: len(marks()) == 4)
        popen.kill()
        await until(lambda: marked.alive() == {holder}, timeout=SECOND)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["guardian", "supervisor"])
async def test_guardian_and_supervisor_killed_at_the_same_moment(
    tmp_path: Path, write_mod: WriteMod, marked: Marked, first: str
) -> None:
    source, marks = leaver(tmp_path, "spin")
    with supervisor(tmp_path, marked, write_mod("leaver", source)) as popen:
        guardian = pid_from(popen)
        await until(lambda: len(marks()) == 4)
        pids = [guardian, popen.pid]
        for pid in pids if first == "guardian" else reversed(pids):
            os.kill(pid, signal.SIGKILL)
        await marked.gone_within(SECOND)


async def test_guardian_warden_and_supervisor_killed_at_the_same_moment(
    tmp_path: Path, write_mod: WriteMod, marked: Marked
) -> None:
    """The lifeline is the last to hold: the worker and its group end."""
    source, marks = leaver(tmp_path, "spin")
    with supervisor(tmp_path, marked, write_mod("leaver", source)) as popen:
        guardian = pid_from(popen)
        await until(lambda: len(marks()) == 4)
        (warden,) = psutil.Process(guardian).children()
        worker = min(warden.children(), key=psutil.Process.create_time).pid
        for pid in (guardian, warden.pid, popen.pid):
            os.kill(pid, signal.SIGKILL)
        await until(lambda: is_gone(worker), timeout=SECOND)


async def test_an_end_of_one_mod_takes_its_processes_and_nobody_elses(
    network: AgentNetwork, tmp_path: Path, write_mod: WriteMod
) -> None:
    trees = {}
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        source, trees[name] = leaver(tmp_path / name)
        assert (await network.load_mod(write_mod(name, source))).success
    await until(lambda: all(len(marks()) == 4 for marks in trees.values()))
    assert (await network.unload_mod("one")).success
    assert all(is_gone(pid) for pid in trees["one"]())
    assert not any(is_gone(pid) for pid in trees["other"]())


@pytest.mark.slow
async def test_the_guardian_is_killed_under_load(network: AgentNetwork, tmp_path: Path, write_mod: WriteMod) -> None:
    """No worker is disturbed, loads go on, and an unload of an older worker still leaves nothing."""
    source, marks = leaver(tmp_path)
    assert (await network.load_mod(write_mod("leaver", source))).success
    assert (await network.load_mod(write_mod("echo"))).success
    await until(lambda: len(marks()) == 4)
    launcher = network._running().mods._shared.launcher
    answered, ended = 0, False

    async def ask() -> None:
        nonlocal answered
        while not ended:
            response = await network.process_event(Event("test.ping", "agent:alice", payload={"i": answered}))
            assert response.data["pong"] == answered
            answered += 1

    asking = asyncio.create_task(ask())
    for n in range(3):
        os.kill(launcher._guardian.pid, signal.SIGKILL)  # pyright: ignore
        loaded = await network.load_mod(write_mod(f"new{n}", ECHO.replace("test.ping", f"test.new{n}")))
        assert loaded.success, loaded
    os.kill(launcher._guardian.pid, signal.SIGKILL)  # pyright: ignore
    assert (await network.unload_mod("leaver")).success
    assert all(is_gone(pid) for pid in marks())
    ended = True
    await asking
    assert answered > 10
    assert not network.get_crashes()


async def test_a_launch_that_nobody_carries_out_ends_with_the_start_timeout(
    network: AgentNetwork, write_mod: WriteMod, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = network._running().mods._shared.launcher
    guardian = launcher._guardian  # pyright: ignore
    monkeypatch.setattr(guardian, "send", lambda _signum: None)
    os.kill(guardian.pid, signal.SIGSTOP)
    loaded = await network.load_mod(write_mod("echo"), limits={"start_timeout": 0.2})
    assert loaded.error == "start_timeout"
    monkeypatch.undo()
    assert (await network.load_mod("./echo")).success


async def test_a_supervisor_killed_after_its_guardian(tmp_path: Path, write_mod: WriteMod, marked: Marked) -> None:
    source, marks = leaver(tmp_path, "spin")
    with supervisor(tmp_path, marked, write_mod("leaver", source), write_mod("echo")) as popen:
        os.kill(pid_from(popen), signal.SIGKILL)
        await until(lambda: len(marks()) == 4)
        popen.kill()
        await marked.gone_within(SECOND)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["guardian", "wardens", "both"])
async def test_a_supervisor_killed_while_those_who_end_its_workers_are_stopped(
    tmp_path: Path, write_mod: WriteMod, marked: Marked, stopped: str
) -> None:
    source, marks = leaver(tmp_path, "spin")
    with supervisor(tmp_path, marked, write_mod("leaver", source), write_mod("echo")) as popen:
        guardian = psutil.Process(pid_from(popen))
        await until(lambda: len(marks()) == 4)
        wardens = guardian.children()
        victims = {"guardian": [guardian], "wardens": wardens, "both": [guardian, *wardens]}[stopped]
        for victim in victims:
            victim.suspend()
        await until(lambda: all(victim.status() == psutil.STATUS_STOPPED for victim in victims))
        popen.kill()
        await marked.gone_within(SECOND)


async def test_two_networks_in_one_process(
    make_network: Callable[..., AgentNetwork], tmp_path: Path, write_mod: WriteMod
) -> None:
    one = make_network({"storage": "one"})
    other = make_network({"storage": "other"})
    path = write_mod("echo")
    for network in (one, other):
        await network.initialize()
        assert (await network.load_mod(path)).success
    await one.shutdown()
    assert (await other.process_event(Event("test.ping", "agent:alice", payload={"i": 1}))).data["pong"] == 1
    await one.initialize()
    assert one.get_loaded_mods()["echo"]["state"] == "ready", "loaded again"
    assert one.get_loaded_mods()["echo"]["pid"] != other.get_loaded_mods()["echo"]["pid"]


@pytest.mark.slow
async def test_a_fork_bomb_is_unloaded(network: AgentNetwork, tmp_path: Path, write_mod: WriteMod) -> None:
    source, marks = leaver(tmp_path, "bomb")
    assert (await network.load_mod(write_mod("leaver", source))).success
    await until(lambda: len(marks()) >= MARKED["bomb"], timeout=40)
    assert (await network.unload_mod("leaver", timeout=1)).success
    assert all(is_gone(pid) for pid in marks())
