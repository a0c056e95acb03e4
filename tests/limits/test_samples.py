"""Samples of worker processes: one contract for both samplers against real processes, and the sums on made-up ones."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.limits import samples as procs
from modvisor.supervisor.limits.process_table import Process, parse_stat, read_process_table, trees_of
from modvisor.supervisor.limits.samples import LinuxSampler, PsutilSampler, Sampler, make_sampler

on_linux = sys.platform == "linux"
needs_proc = pytest.mark.skipif(not on_linux, reason="reads /proc")

WORKER = """
import os, subprocess, sys, threading, time

CHILD = "import sys; print('up', flush=True); sys.stdin.readline()"
BURN = "import time\\nend = time.process_time() + 0.2\\nwhile time.process_time() < end: pass"
for_ever = threading.Event()
held = []


def child():
    process = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    held.append(process)


def threads():
    started = threading.Barrier(4)
    for _ in range(3):
        threading.Thread(target=lambda: (started.wait(), for_ever.wait()), daemon=True).start()
    started.wait()


def files():
    held.extend(open(os.devnull) for _ in range(5))


def memory():
    held.append(b"x" * 30_000_000)


def orphan():  # forked twice; it ends when the pipe does, that is, with the worker
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)
        os._exit(0)
    os.waitpid(middle, 0)


def burn():
    exec(BURN)


def burn_in_child():
    subprocess.run([sys.executable, "-c", BURN], check=True)


for line in sys.stdin:
    globals()[line.strip()]()
    print("done", flush=True)
"""


class Worker:
    """A real process that leads its own session and does as it is told over a pipe."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", WORKER]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
        )
        self.pid = self.process.pid

    def do(self, *commands: str) -> None:
        """Each of the worker's functions in turn; returns when the last is done."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for command in commands:
            self.process.stdin.write(f"{command}\n")
            self.process.stdin.flush()
            assert self.process.stdout.readline() == "done\n", f"the worker failed at {command}"

    def kill(self) -> None:
        """Everything in its session; it stays a zombie until `reap`."""
        if self.process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def start_worker() -> Iterator[Callable[[], Worker]]:
    workers: list[Worker] = []

    def start() -> Worker:
        workers.append(Worker())
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.reap()


@pytest.fixture
def worker(start_worker: Callable[[], Worker]) -> Worker:
    return start_worker()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=[pytest.param(LinuxSampler, marks=needs_proc), PsutilSampler])
def sampler(request: pytest.FixtureRequest, clock: Clock) -> Sampler:
    return request.param(clock=clock)


# -- the contract of both samplers


def test_figures_are_those_of_psutil(sampler: Sampler, worker: Worker) -> None:
    worker.do("child", "child", "threads", "files", "memory")
    sample = sampler.sample([worker.pid])[worker.pid]
    process = psutil.Process(worker.pid)
    children = process.children(recursive=True)
    tree = [process, *children]
    assert sample.pid == worker.pid
    assert sample.children == len(children) == 2
    assert sample.threads == sum(each.num_threads() for each in tree) == 6
    assert sample.open_files == process.num_fds()
    # The kernel counts pages per core and sums the counts up loosely, so two readings may differ a little.
    assert sample.rss == pytest.approx(sum(each.memory_info().rss for each in tree), rel=0.1)
    assert sample.rss > 30_000_000
    assert sample.cpu_percent is None
    if on_linux:
        io = process.io_counters()
        assert (sample.read_bytes, sample.write_bytes) == (io.read_bytes, io.write_bytes)
        assert sample.uss == pytest.approx(process.memory_full_info().uss, rel=0.1)


def test_a_child_that_was_forked_twice_counts(sampler: Sampler, worker: Worker) -> None:
    worker.do("orphan")
    assert psutil.Process(worker.pid).children(recursive=True) == []  # init's now
    assert sampler.sample([worker.pid])[worker.pid].children == 1


@pytest.mark.parametrize("burn", ["burn", pytest.param("burn_in_child", marks=needs_proc)])
def test_processor_time_since_the_former_sample(sampler: Sampler, worker: Worker, clock: Clock, burn: str) -> None:
    worker.do("files")
    sampler.sample([worker.pid])
    worker.do(burn)
    clock.now += 10.0
    used = sampler.sample([worker.pid])[worker.pid].cpu_percent
    assert used is not None
    assert 1.5 <= used < 50.0  # 0.2 s and what starting a child takes, in 10 s
    clock.now += 10.0
    assert sampler.sample([worker.pid])[worker.pid].cpu_percent == pytest.approx(0.0, abs=0.5)


def test_several_workers_at_once_are_told_apart(sampler: Sampler, start_worker: Callable[[], Worker]) -> None:
    one, other = start_worker(), start_worker()
    one.do("child")
    other.do("threads")
    samples = sampler.sample([one.pid, other.pid, one.pid])
    assert {pid: sample.children for pid, sample in samples.items()} == {one.pid: 1, other.pid: 0}
    assert samples[other.pid].threads == 4


def test_a_supervisor_counts_itself_alone(sampler: Sampler, worker: Worker) -> None:
    worker.do("child")
    own = os.getpid()
    samples = sampler.sample([worker.pid, own], alone=own)
    assert {pid: (sample.children, len(sample.tree)) for pid, sample in samples.items()} == {
        worker.pid: (1, 2),
        own: (0, 1),
    }


def test_a_worker_that_ended_is_absent(sampler: Sampler, start_worker: Callable[[], Worker]) -> None:
    living, dead = start_worker(), start_worker()
    pids = [living.pid, dead.pid]
    assert sampler.sample(pids).keys() == set(pids)
    dead.kill()
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    assert sampler.sample(pids).keys() == {living.pid}  # a zombie
    dead.reap()
    assert sampler.sample(pids).keys() == {living.pid}
    assert sampler._pasts.keys() == {living.pid}


def test_no_workers(sampler: Sampler) -> None:
    assert sampler.sample([]) == {}


def test_the_sampler_of_this_system() -> None:
    assert type(make_sampler()) is (LinuxSampler if on_linux else PsutilSampler)


# -- what the system hides


@needs_proc
def test_a_figure_that_may_not_be_seen_is_none_on_linux(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.do("files")
    real_open, real_listdir = os.open, os.listdir

    def guarded_open(path: str, flags: int) -> int:
        if path.endswith(("/io", "/smaps_rollup")):
            raise PermissionError(path)
        return real_open(path, flags)

    def guarded_listdir(path: str) -> list[str]:
        if path.endswith("/fd"):
            raise PermissionError(path)
        return real_listdir(path)

    with monkeypatch.context() as patch:
        patch.setattr(procs.os, "open", guarded_open)
        patch.setattr(procs.os, "listdir", guarded_listdir)
        sample = LinuxSampler().sample([worker.pid])[worker.pid]
    assert (sample.uss, sample.open_files, sample.read_bytes, sample.write_bytes) == (None, None, None, None)
    assert sample.rss > 0


def test_a_figure_that_may_not_be_seen_is_none_with_psutil(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.do("files")

    def denied(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    with monkeypatch.context() as patch:
        for name in ("memory_full_info", "num_fds", "io_counters"):
            patch.setattr(psutil.Process, name, denied, raising=False)
        sample = PsutilSampler().sample([worker.pid])[worker.pid]
    assert (sample.uss, sample.open_files, sample.read_bytes, sample.write_bytes) == (None, None, None, None)
    assert sample.rss > 0


@needs_proc
def test_workers_are_not_taken_for_gone_when_we_are_out_of_descriptors(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(path: str, flags: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(procs.os, "open", exhausted)
        with pytest.raises(OSError, match="Too many open files"):
            LinuxSampler().sample([worker.pid])


@needs_proc
def test_a_kernel_that_does_not_count_disk_bytes(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker.do("files")
    monkeypatch.setattr(procs, "read_proc", lambda path: b"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\n")
    assert LinuxSampler()._disk_bytes(worker.pid) == (None, None)


# -- the process table

STAT = b"%d (%b) S 7 42 41 0 -1 4194304 1 2 3 4 150 50 25 75 20 0 9 0 12345 1000000 300 18446744073709551615 1 1 0\n"


@pytest.mark.parametrize("name", [b"python", b"a b", b"((", b") R 1 1 1 (", b"", b"\xff\n)"])
def test_names_do_not_confuse_the_parser(name: bytes) -> None:
    process = parse_stat(42, STAT % (42, name))
    assert process[:3] == (42, 7, 41)
    assert (process.started, process.ended, process.threads) == (12345, False, 9)
    assert process.cpu == pytest.approx(300 / os.sysconf("SC_CLK_TCK"))
    assert process.rss == 300 * os.sysconf("SC_PAGE_SIZE")


@given(st.binary(max_size=64))
def test_no_name_confuses_the_parser(name: bytes) -> None:
    assert parse_stat(42, STAT % (42, name)) == parse_stat(42, STAT % (42, b"python"))


@needs_proc
def test_a_process_that_has_done_nothing_is_not_parsed_again(worker: Worker) -> None:
    table = read_process_table()
    while (later := read_process_table(table))[worker.pid] is not table[worker.pid]:  # it goes to sleep meanwhile
        table = later
    worker.do("memory")
    now = read_process_table(table)[worker.pid]
    assert now.rss > table[worker.pid].rss


def process(pid: int, parent: int = 1, session: int = 0, *, started: float = 1.0, cpu: float = 0.0) -> Process:
    return Process(pid, parent, session or pid, started, ended=False, cpu=cpu, rss=100, threads=1)


def test_a_tree_is_descendants_and_the_session_with_theirs() -> None:
    table = [
        process(1, parent=0),
        process(10),
        process(11, parent=10, session=10),
        process(12, parent=11, session=12),  # a descendant that leads a session of its own
        process(13, parent=1, session=10),  # an orphan of the session
        process(14, parent=13, session=14),  # and a descendant of it
        process(20),
        process(21, parent=20, session=20),
    ]
    trees = trees_of(table, {10, 20, 99})
    assert trees == {10: {10, 11, 12, 13, 14}, 20: {20, 21}}


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=12), st.sets(st.integers(1, 14)))
def test_trees_of_any_table_end(links: list[tuple[int, int]], roots: set[int]) -> None:
    """Even of one that was read while pids were reused, so that parents go in a circle."""
    table = [process(pid, parent, session) for pid, (parent, session) in enumerate(links, start=1)]
    trees = trees_of(table, roots)
    assert trees.keys() == roots & {each.pid for each in table}
    assert all(root in tree for root, tree in trees.items())


# -- from one pass to the next


class MadeUpSampler(Sampler):
    """The rules of `Sampler` on a process table made up by the test."""

    def __init__(self, clock: Clock, *, uss_interval: float = 30.0) -> None:
        super().__init__(clock=clock, uss_interval=uss_interval)
        self.trees: dict[int, list[Process]] = {}
        self.measured: list[int] = []
        self.figures_read = 0

    def _trees(self, pids: set[int], members: Mapping[int, Iterable[int]]) -> Iterator[list[Process]]:
        return (self.trees[pid] for pid in sorted(pids) if pid in self.trees)

    def _uss(self, pid: int) -> int | None:
        self.measured.append(pid)
        return 1000 + len(self.measured)

    def _open_files(self, pid: int) -> int | None:
        self.figures_read += 1
        return 3

    def _disk_bytes(self, pid: int) -> tuple[int | None, int | None]:
        return 1, 2


@pytest.fixture
def made_up(clock: Clock) -> MadeUpSampler:
    return MadeUpSampler(clock)


def cpu_of(sampler: MadeUpSampler, *tree: Process) -> float | None:
    sampler.trees = {10: list(tree)}
    return sampler.sample([10])[10].cpu_percent


def test_processor_time_is_that_of_the_tree(made_up: MadeUpSampler, clock: Clock) -> None:
    assert cpu_of(made_up, process(10, cpu=1.0), process(11, cpu=5.0)) is None
    clock.now += 2.0
    assert cpu_of(made_up, process(10, cpu=1.2), process(11, cpu=5.3)) == pytest.approx(25.0)


def test_processor_time_is_never_negative(made_up: MadeUpSampler, clock: Clock) -> None:
    cpu_of(made_up, process(10, cpu=1.0), process(11, cpu=5.0))
    clock.now += 2.0
    assert cpu_of(made_up, process(10, cpu=1.2)) == 0.0  # nobody waited for the child
    clock.now += 2.0
    assert cpu_of(made_up, process(10, cpu=1.3)) == pytest.approx(5.0)


def test_processor_time_is_never_more_than_all_cores(made_up: MadeUpSampler, clock: Clock) -> None:
    cpu_of(made_up, process(10, cpu=1.0))
    clock.now += 2.0
    assert cpu_of(made_up, process(10, cpu=1e6)) == 100.0 * (os.cpu_count() or 1)


def test_a_second_sample_at_the_same_moment_knows_no_share(made_up: MadeUpSampler) -> None:
    cpu_of(made_up, process(10, cpu=1.0))
    assert cpu_of(made_up, process(10, cpu=1.0)) is None


def test_a_later_process_of_the_same_pid_begins_anew(made_up: MadeUpSampler, clock: Clock) -> None:
    cpu_of(made_up, process(10, cpu=1.0))
    clock.now += 2.0
    assert cpu_of(made_up, process(10, cpu=2.0, started=2.0)) is None
    assert made_up.measured == [10, 10]  # the old one's USS is not the new one's


def test_a_forgotten_worker_begins_anew(made_up: MadeUpSampler, clock: Clock) -> None:
    cpu_of(made_up, process(10, cpu=1.0))
    made_up.forget(10)
    made_up.forget(99)
    clock.now += 2.0
    assert cpu_of(made_up, process(10, cpu=2.0)) is None


def test_uss_of_a_worker_that_does_nothing_is_measured_seldom(made_up: MadeUpSampler, clock: Clock) -> None:
    made_up.trees = {10: [process(10)], 20: [process(20)]}
    for step in range(20):
        clock.now += 15.0
        made_up.trees[20] = [process(20, cpu=step * 0.01)]
        made_up.sample([10, 20], thorough=False)
    assert (made_up.measured.count(10), made_up.measured.count(20)) == (1, 10)
    clock.now += 15.0
    made_up.sample([10, 20], thorough=False)
    assert made_up.measured.count(10) == 2


def test_figures_of_a_worker_that_does_nothing_are_read_once_in_an_interval(
    made_up: MadeUpSampler, clock: Clock
) -> None:
    made_up.trees = {10: [process(10)]}
    read = []
    for _ in range(8):
        assert made_up.sample([10], thorough=False)[10].open_files == 3
        read.append(made_up.figures_read)
        clock.now += 10.0
    assert read == [1, 1, 1, 2, 2, 2, 3, 3]


def test_figures_of_a_worker_that_did_something_are_read_in_every_pass(made_up: MadeUpSampler, clock: Clock) -> None:
    for number, tree in enumerate([[process(10)], [process(10, cpu=0.01)], [process(10, cpu=0.01), process(11)]], 1):
        made_up.trees = {10: tree}
        made_up.sample([10], thorough=False)
        assert made_up.figures_read == number
        clock.now += 0.1


def test_a_worker_that_only_went_to_another_core_has_done_nothing(made_up: MadeUpSampler, clock: Clock) -> None:
    for stat in (b"on core 0", b"on core 1"):  # it answered a ping
        made_up.trees = {10: [process(10)._replace(stat=stat)]}
        made_up.sample([10], thorough=False)
        clock.now += 10.0
    assert made_up.figures_read == 1


def test_whoever_asks_for_fresh_figures_gets_them(made_up: MadeUpSampler) -> None:
    made_up.trees = {10: [process(10)]}
    for number in (1, 2):
        made_up.sample([10])
        assert made_up.figures_read == number


def test_uss_is_carried_until_it_is_due(made_up: MadeUpSampler, clock: Clock) -> None:
    made_up.trees = {10: [process(10)]}
    figures = []
    for _ in range(8):
        figures.append(made_up.sample([10])[10].uss)
        clock.now += 10.0
    assert figures == [1001, 1001, 1001, 1002, 1002, 1002, 1003, 1003]


def test_uss_goes_round_evenly(made_up: MadeUpSampler, clock: Clock) -> None:
    pids = range(100, 300)
    made_up.trees = {pid: [process(pid)] for pid in pids}
    rounds: list[list[int]] = []
    for _ in range(30):
        made_up.measured.clear()
        made_up.sample(pids)
        rounds.append(list(made_up.measured))
        clock.now += 5.0
    assert max(map(len, rounds)) == 50  # the first pass knows no pace yet: a quarter
    assert all(len(measured) <= 34 for measured in rounds[1:])
    assert {pid for measured in rounds[:6] for pid in measured} == set(pids)
    for pid in pids:
        passes = [index for index, measured in enumerate(rounds) if pid in measured]
        gaps = [5.0 * (later - former) for former, later in itertools.pairwise(passes)]
        assert all(30.0 <= gap <= 35.0 for gap in gaps)


def test_uss_of_a_part_when_passes_are_rare(made_up: MadeUpSampler, clock: Clock) -> None:
    made_up.trees = {pid: [process(pid)] for pid in range(1, 9)}
    for _ in range(4):
        made_up.sample(range(1, 9))
        clock.now += 3600.0
    assert made_up.measured == [1, 2, 3, 4, 5, 6, 7, 8]


def test_without_an_interval_each_pass_measures_a_part(clock: Clock) -> None:
    sampler = MadeUpSampler(clock, uss_interval=0.0)
    sampler.trees = {10: [process(10)]}
    assert [sampler.sample([10])[10].uss for _ in range(3)] == [1001, 1002, 1003]
