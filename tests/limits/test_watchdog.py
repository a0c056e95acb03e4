"""The watchdog and what it looks with, on real processes. What it decides: test_over_limit.py."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config.mods.mod import LimitsConfig
from modvisor.supervisor.fleet.figures.monitor import ResourceMonitor
from modvisor.supervisor.limits.background import set_idle
from modvisor.supervisor.limits.over_limit import Exceeded, Watch
from modvisor.supervisor.limits.samples import ProcessSample, memory_held, seconds_waited
from modvisor.supervisor.limits.tripwires import MEMORY_JUMP, TASK_JUMP, Tripwires
from modvisor.supervisor.limits.watchdog import LONGEST_PAUSE, NEAR_INTERVAL, YOUNG, Take, Watchdog, pause_after
from modvisor.supervisor.limits.watched_tree import DISK_INTERVAL, WatchedTree
from tests.conftest import until

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux")


# -- the system


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Processes that run a script, print "up", and are killed with their group at the end."""
    started: list[subprocess.Popen[str]] = []

    def run(script: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


Start = Callable[..., "subprocess.Popen[str]"]

WAIT = "print('up', flush=True)\nimport signal\nsignal.pause()"
SPIN = "print('up', flush=True)\nwhile True: pass"
THREADS = f"""
import threading
for _ in range(3): threading.Thread(target=threading.Event().wait, daemon=True).start()
{WAIT}
"""


def policies(pid: int) -> set[int]:
    return {os.sched_getscheduler(thread.id) for thread in psutil.Process(pid).threads()}


def session_nice(pid: int) -> str | None:
    path = Path(f"/proc/{pid}/autogroup")
    return path.read_text().split()[-1] if path.exists() else None


@on_linux
def test_every_thread_is_put_back_and_comes_back(start: Start) -> None:
    process = start(THREADS)
    assert len(psutil.Process(process.pid).threads()) == 4
    assert set_idle([process.pid], True)
    assert policies(process.pid) == {os.SCHED_IDLE}
    assert session_nice(process.pid) in ("19", None)
    assert set_idle([process.pid], True), "again changes nothing"
    if os.geteuid() != 0:
        pytest.skip("to come back takes CAP_SYS_NICE")
    assert set_idle([process.pid], False)
    assert policies(process.pid) == {os.SCHED_OTHER}
    assert session_nice(process.pid) in ("0", None)


@on_linux
def test_a_process_that_is_gone_is_no_trouble(start: Start) -> None:
    process = start(WAIT)
    process.kill()
    process.wait()
    assert set_idle([process.pid, 2**22 + 1], True)
    assert memory_held([process.pid]) is None
    assert seconds_waited([process.pid]) is None


@on_linux
def test_pages_that_processes_share_count_once(start: Start) -> None:
    parent = start(f"""
import os
held = b"x" * 50_000_000
for _ in range(3):
    if os.fork() == 0:
        import signal
        signal.pause()
{WAIT}
""")
    tree = [parent.pid, *(child.pid for child in psutil.Process(parent.pid).children())]
    assert len(tree) == 4
    assert sum(psutil.Process(pid).memory_info().rss for pid in tree) > 200_000_000
    held = memory_held(tree)
    assert held is not None
    assert 50_000_000 < held < 90_000_000


@on_linux
def test_the_time_a_thread_waits_for_others(start: Start) -> None:
    cores = sorted(os.sched_getaffinity(0))[:1]
    pids = [start(SPIN).pid for _ in range(2)]
    for pid in pids:
        os.sched_setaffinity(pid, cores)
    began, before = time.monotonic(), seconds_waited(pids)
    assert before is not None
    while (now := seconds_waited(pids)) is not None and now - before < 0.2:
        assert time.monotonic() - began < 10
        time.sleep(0.01)
    assert now is not None


@on_linux
def test_tripwires_tell_of_many_new_tasks_and_of_much_memory(start: Start) -> None:
    wires = Tripwires()
    try:
        assert not wires.touched(), "not armed yet"
        wires.rearm()
        start(f"""
import os, signal
for _ in range({TASK_JUMP + 20}):
    if os.fork() == 0: signal.pause()
{WAIT}
""")
        assert wires.touched()
        wires.rearm()
        assert not wires.touched()
        start(f"held = b'x' * {4 * MEMORY_JUMP}\n{WAIT}")
        assert wires.touched()
    finally:
        wires.close()
    assert not wires.touched()


def test_without_proc_no_tripwire_is_touched() -> None:
    wires = Tripwires(None, None)
    wires.rearm()
    assert not wires.touched()
    wires.close()


# -- the runner


@asynccontextmanager
async def running(take: Take | None = None) -> AsyncIterator[Watchdog]:
    watchdog = Watchdog(take or ResourceMonitor(list).take)
    task = asyncio.create_task(watchdog.run())
    try:
        yield watchdog
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.anyio
async def test_what_is_exceeded_is_told_in_the_loop(start: Start) -> None:
    process, told = start(THREADS), []
    async with running() as watchdog:
        watchdog.watch("wiki", 3, process.pid, LimitsConfig(threads=2), lambda *found: told.append(found))
        await until(lambda: bool(told))
    assert told == [("wiki", 3, Exceeded("threads", 4, 2, True, "threads: 4 of 2"))]


@pytest.mark.anyio
async def test_of_one_that_is_not_watched_any_more_nothing_is_told(start: Start) -> None:
    process, told = start(THREADS), []
    watchdog = Watchdog(ResourceMonitor(list).take)
    watchdog._loop = asyncio.get_running_loop()
    watchdog.watch("wiki", 1, process.pid, LimitsConfig(threads=2), lambda *found: told.append(found))
    watchdog.sample_all()
    watchdog.unwatch(process.pid)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert told == []


@pytest.mark.anyio
@on_linux
async def test_a_fork_bomb_is_seen_at_once(start: Start) -> None:
    process = start(
        """
import os, signal, sys
print("up", flush=True)
signal.sigwait([signal.SIGUSR1])
for _ in range(300):
    if os.fork() == 0: signal.pause()
signal.pause()
""".replace("print(", "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nprint(", 1)
    )
    told: list[float] = []
    async with running() as watchdog:
        watchdog.watch("mad", 1, process.pid, LimitsConfig(processes=50), lambda *_: told.append(time.monotonic()))
        await until(lambda: watchdog.passes >= 2)
        began = time.monotonic()
        process.send_signal(signal.SIGUSR1)
        await until(lambda: bool(told))
    assert told[0] - began < 1.0  # a tenth of that when nothing else runs here


@pytest.mark.anyio
async def test_a_table_that_cannot_be_read_is_no_end(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    process, told, tries = start(THREADS), [], []
    monitor = ResourceMonitor(list)

    def take(*args: Any) -> Any:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("Too many open files")
        return monitor.take(*args)

    async with running(take) as watchdog:
        watchdog.watch("wiki", 1, process.pid, LimitsConfig(threads=2), lambda *found: told.append(found))
        await until(lambda: bool(told))
    assert "could not be sampled" in caplog.text


@pytest.mark.anyio
async def test_a_folder_is_looked_into(tmp_path: Path, start: Start) -> None:
    (tmp_path / "one").write_bytes(bytes(100_000))
    process, told = start(WAIT), []
    async with running() as watchdog:
        watchdog.watch(
            "wiki", 1, process.pid, LimitsConfig(disk=50_000), lambda *found: told.append(found), storage=tmp_path
        )
        await until(lambda: bool(told))
    assert told[0][2].resource == "disk"


def test_a_folder_is_due_in_its_turn_and_when_enough_was_written(tmp_path: Path) -> None:
    limits = LimitsConfig(disk=1_000_000)
    watched = WatchedTree("wiki", 1, 1, limits, Watch(limits), None, tmp_path, lambda *_: None)
    now = time.monotonic()
    assert watched.is_disk_due(now), "the first look"
    watched.measure_disk(lambda: False)
    assert watched.disk_used == 0
    assert not watched.is_disk_due(now + 1)
    watched.written = 900_000
    assert not watched.is_disk_due(now + 1)
    watched.written = 1_100_000
    assert watched.is_disk_due(now + 1), "it may be over"
    watched.written = 0
    assert watched.is_disk_due(now + DISK_INTERVAL + 1)
    watched.disk_due = now + 1000.0
    watched.written = 10**9
    assert not watched.is_disk_due(now + 1), "one that took ten seconds keeps its distance"
    watched.storage = None
    assert not watched.is_disk_due(now + 2000)


@pytest.mark.slow
@on_linux
def test_a_mod_that_starves_behind_the_others_does_not_come_back(start: Start) -> None:
    """It uses little since others want the core, and would use more: that it waits counts as if it ran."""
    cores = sorted(os.sched_getaffinity(0))[:1]
    starving, greedy = start(SPIN), start(SPIN)
    for process in (starving, greedy):
        os.sched_setaffinity(process.pid, cores)
    monitor = ResourceMonitor(list)
    watchdog, limits = Watchdog(monitor.take), LimitsConfig(cpu=0.5)
    watchdog.watch("mad", 1, starving.pid, limits, lambda *_: None)
    watched = watchdog._watched[starving.pid]

    def look(seconds: float) -> float:
        time.sleep(seconds)  # what is measured is time
        watchdog.sample_all()
        assert watched.newest is not None
        return watched.newest.cores or 0.0

    watched.watch.idle = True
    look(0.0)
    look(0.1)
    assert watchdog.is_idle(starving.pid)
    assert policies(starving.pid) == {os.SCHED_IDLE}
    look(1.1)
    demand = look(1.1)
    used: ProcessSample | None = monitor.of(starving.pid)
    assert used is not None
    assert used.cpu_percent is not None
    assert used.cpu_percent < 40
    assert demand > 0.5


@given(st.floats(0, 100), st.booleans(), st.booleans())
def test_the_pause_after_a_slow_pass_has_a_ceiling(took: float, near: bool, young: bool) -> None:
    assert NEAR_INTERVAL <= pause_after(took, near=near, young=young) <= LONGEST_PAUSE


@pytest.mark.anyio
async def test_a_new_worker_has_its_figures_soon(start: Start) -> None:
    taken: list[list[int]] = []

    def take(pids: Iterable[int], _members: Mapping[int, Iterable[int]]) -> dict[int, ProcessSample]:
        taken.append(list(pids))
        return {}

    worker = start(WAIT)
    async with running(take) as watchdog:
        await until(lambda: len(taken) == 1)
        watchdog.watch("m", 1, worker.pid, LimitsConfig(), lambda *_: None)
        await until(lambda: taken.count([worker.pid]) >= 2, timeout=YOUNG)
