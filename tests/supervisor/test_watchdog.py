"""What is exceeded and when, on made-up readings; and the runner on real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from modvisor.supervisor.config.config import LimitsConfig
from modvisor.supervisor.fleet.monitor import ResourceMonitor
from modvisor.supervisor.limits import watchdog as module
from modvisor.supervisor.limits.samples import ProcessSample, memory_held, waited
from modvisor.supervisor.limits.watchdog import (
    Exceeded,
    Reading,
    Tripwires,
    Watch,
    Watchdog,
    Watched,
    disk_usage,
    set_idle,
)
from tests.conftest import until

NO_LIMITS = LimitsConfig(open_files=None, processes=None, threads=None)
QUIET = Reading(at=0.0, memory=1_000_000, processes=1, threads=2)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux")


def texts(limits: LimitsConfig, reading: Reading) -> list[str]:
    return [each.text for each in Watch(limits).take(reading)]


# -- decisions


def test_what_is_within_its_limits_is_not_told() -> None:
    limits = LimitsConfig(memory=10_000_000, memory_soft=5_000_000, processes=3, threads=9)
    assert Watch(limits).take(replace(QUIET, memory=5_000_000, processes=3, threads=9)) == []
    assert Watch(NO_LIMITS).take(replace(QUIET, memory=10**12, processes=10**6, threads=10**6)) == []


@pytest.mark.parametrize(
    ("limits", "reading", "expected"),
    [
        (
            LimitsConfig(memory=500_000_000),
            replace(QUIET, memory=612_400_000),
            Exceeded("memory", 612_400_000, 500_000_000, True, "memory: used 612.4 MB of 500.0 MB"),
        ),
        (
            LimitsConfig(memory=500_000_000, memory_soft=400_000_000),
            replace(QUIET, memory=450_000_000),
            Exceeded("memory_soft", 450_000_000, 400_000_000, False, "memory_soft: used 450.0 MB of 400.0 MB"),
        ),
        (
            LimitsConfig(processes=100),
            replace(QUIET, processes=131),
            Exceeded("processes", 131, 100, True, "processes: 131 of 100"),
        ),
        (LimitsConfig(threads=5), replace(QUIET, threads=6), Exceeded("threads", 6, 5, True, "threads: 6 of 5")),
        (
            LimitsConfig(processes=10),
            replace(QUIET, zombies=101),
            Exceeded("processes", 101, 10, True, "processes: 101 that ended and were not waited for, 10 allowed"),
        ),
    ],
)
def test_what_is_over_its_limit_is_told(limits: LimitsConfig, reading: Reading, expected: Exceeded) -> None:
    assert Watch(limits).take(reading) == [expected]


def test_above_the_hard_limit_the_soft_one_is_no_news() -> None:
    limits = LimitsConfig(memory=500_000_000, memory_soft=400_000_000)
    assert texts(limits, replace(QUIET, memory=600_000_000)) == ["memory: used 600.0 MB of 500.0 MB"]


def test_several_are_told_at_once() -> None:
    limits = LimitsConfig(processes=1, threads=1)
    assert texts(limits, replace(QUIET, processes=2, threads=2)) == ["processes: 2 of 1", "threads: 2 of 1"]


def test_the_same_is_told_again_after_a_while() -> None:
    watch = Watch(LimitsConfig(threads=1))
    told = [bool(watch.take(replace(QUIET, at=at))) for at in (0.0, 1.0, module.REPEAT - 0.1, module.REPEAT, 11.0)]
    assert told == [True, False, False, True, False]


def test_a_folder_that_is_too_large() -> None:
    watch = Watch(LimitsConfig(disk=1_000_000))
    assert watch.take_disk(1_000_000, 0.0) == []
    (found,) = watch.take_disk(1_500_000, 1.0)
    assert found == Exceeded("disk", 1_500_000, 1_000_000, True, "disk: used 1.5 MB of 1.0 MB")
    assert watch.take_disk(1_500_000, 2.0) == []
    assert Watch(NO_LIMITS).take_disk(10**12, 0.0) == []


def test_memory_is_measured_exactly_before_anybody_is_ended_for_it() -> None:
    watch = Watch(LimitsConfig(memory=5_000_000, memory_soft=3_000_000))
    assert not watch.doubts(replace(QUIET, memory=3_000_000))
    assert watch.doubts(replace(QUIET, memory=3_000_001))
    assert not watch.doubts(replace(QUIET, memory=6_000_000, memory_exact=True))
    assert not Watch(NO_LIMITS).doubts(replace(QUIET, memory=10**12))


@pytest.mark.parametrize(
    ("limits", "near", "far"),
    [
        (LimitsConfig(memory=1000), {"memory": 801}, {"memory": 800}),
        (LimitsConfig(memory=1000, memory_soft=500), {"memory": 401}, {"memory": 400}),
        (LimitsConfig(processes=10), {"processes": 9}, {"processes": 8}),
        (LimitsConfig(processes=10), {"zombies": 80}, {"zombies": 79}),
        (LimitsConfig(threads=10), {"threads": 9}, {"threads": 8}),
        (LimitsConfig(cpu=0.5), {"cores": 0.41}, {"cores": 0.4}),
    ],
)
def test_what_is_near_its_limit_is_looked_at_more_often(
    limits: LimitsConfig, near: dict[str, Any], far: dict[str, Any]
) -> None:
    low = Reading(at=0.0, memory=0, processes=1, threads=1)
    assert Watch(limits).is_near(replace(low, **near))
    assert not Watch(limits).is_near(replace(low, **far))
    assert not Watch(NO_LIMITS).is_near(replace(low, **near))


# -- behind the others


def idles(watch: Watch, *figures: tuple[float, float | None]) -> list[bool]:
    found = []
    for at, cores in figures:
        watch.take(replace(QUIET, at=at, cores=cores))
        found.append(watch.idle)
    return found


def test_over_its_share_for_a_while_a_mod_gets_what_others_leave() -> None:
    watch = Watch(LimitsConfig(cpu=0.5))
    assert idles(watch, (0.0, 0.9), (0.9, 0.9), (1.0, 0.9)) == [False, False, True]


def test_a_short_burst_does_not_count() -> None:
    watch = Watch(LimitsConfig(cpu=0.5))
    assert idles(watch, (0.0, 0.9), (0.9, 0.4), (1.0, 0.9), (1.9, 0.9)) == [False] * 4


def test_well_below_its_share_for_a_while_it_has_it_again() -> None:
    watch = Watch(LimitsConfig(cpu=0.5))
    idles(watch, (0.0, 0.9), (1.0, 0.9))
    assert idles(watch, (2.0, 0.45), (6.0, 0.45)) == [True, True], "in the dead band nothing changes"
    assert idles(watch, (7.0, 0.3), (8.0, 0.45), (9.0, 0.3), (11.9, 0.3), (12.0, 0.3)) == [True] * 4 + [False]


def test_what_is_not_known_changes_nothing() -> None:
    watch = Watch(LimitsConfig(cpu=0.5))
    assert idles(watch, (0.0, None), (0.1, 0.9), (0.6, None), (1.1, 0.9)) == [False, False, False, True]
    assert idles(Watch(NO_LIMITS), (0.0, 9.0), (9.0, 9.0)) == [False, False]


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
    assert waited([process.pid]) is None


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
    began, before = time.monotonic(), waited(pids)
    assert before is not None
    while (now := waited(pids)) is not None and now - before < 0.2:
        assert time.monotonic() - began < 10
        time.sleep(0.01)
    assert now is not None


def test_the_size_of_a_folder_is_that_of_du(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(bytes(100_000))
    (tmp_path / "two").write_bytes(b"x")
    os.link(tmp_path / "a" / "one", tmp_path / "same")
    (tmp_path / "elsewhere").symlink_to("/usr")
    with open(tmp_path / "sparse", "wb") as file:
        file.truncate(10**12)
    told = int(subprocess.run(["du", "-s", "-B1", tmp_path], capture_output=True, check=True).stdout.split()[0])
    own = 512 * tmp_path.stat().st_blocks
    assert disk_usage(tmp_path) == told - own
    assert 100_000 <= disk_usage(tmp_path) < 200_000


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert disk_usage(tmp_path / "nothing") == 0


def test_a_look_can_be_given_up(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(bytes(100_000))
    assert disk_usage(tmp_path, lambda: True) == 0


@on_linux
def test_tripwires_tell_of_many_new_tasks_and_of_much_memory(start: Start) -> None:
    wires = Tripwires()
    try:
        assert not wires.touched(), "not armed yet"
        wires.rearm()
        start(f"""
import os, signal
for _ in range({module.TASK_JUMP + 20}):
    if os.fork() == 0: signal.pause()
{WAIT}
""")
        assert wires.touched()
        wires.rearm()
        assert not wires.touched()
        start(f"held = b'x' * {4 * module.MEMORY_JUMP}\n{WAIT}")
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
async def running(take: module.Take | None = None) -> AsyncIterator[Watchdog]:
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
    watchdog.pass_over()
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
    assert "could not be looked at" in caplog.text


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
    watchdog, limits = Watchdog(ResourceMonitor(list).take), LimitsConfig(disk=1_000_000)
    watched = Watched("wiki", 1, 1, limits, Watch(limits), None, tmp_path, lambda *_: None)
    now = time.monotonic()
    assert watchdog._is_due(watched, now), "the first look"
    watchdog.look_into_folder(watched)
    assert watched.disk_used == 0
    assert not watchdog._is_due(watched, now + 1)
    watched.written = 900_000
    assert not watchdog._is_due(watched, now + 1)
    watched.written = 1_100_000
    assert watchdog._is_due(watched, now + 1), "it may be over"
    watched.written = 0
    assert watchdog._is_due(watched, now + module.DISK_INTERVAL + 1)
    watched.disk_due = now + 1000.0
    watched.written = 10**9
    assert not watchdog._is_due(watched, now + 1), "one that took ten seconds keeps its distance"
    watched.storage = None
    assert not watchdog._is_due(watched, now + 2000)


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
        watchdog.pass_over()
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
