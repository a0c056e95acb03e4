"""Control groups: what is written with controllers, on a made-up hierarchy; membership and kill on this host's own."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from modvisor.supervisor.config.mods.mod import LimitsConfig
from modvisor.supervisor.limits import cgroup_files, oom
from modvisor.supervisor.limits import cgroups as module
from modvisor.supervisor.limits.cgroups import Cgroup, Cgroups
from modvisor.supervisor.limits.oom import OomCheck, machine_oom_kills
from modvisor.supervisor.limits.subtree import Hierarchy, find_hierarchy, find_subtree

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux")

HYBRID = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw
"""
UNIFIED = "25 20 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
BOUND = "25 20 0:23 /a\\040b /mnt/c\\040d rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("mountinfo", "membership", "expected"),
    [
        (HYBRID, "8:memory:/x\n0::/\n", ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/unified")),
        (UNIFIED, "0::/system.slice/a.service\n", ("/sys/fs/cgroup", "/sys/fs/cgroup/system.slice/a.service")),
        (BOUND, "0::/a b/deep\n", ("/mnt/c d", "/mnt/c d/deep")),
        (BOUND, "0::/a b\n", ("/mnt/c d", "/mnt/c d")),
        (BOUND, "0::/elsewhere\n", None),
        (UNIFIED, "0::/../other\n", None),
        (UNIFIED, "8:memory:/x\n", None),
        ("22 27 0:21 / /proc rw - proc proc rw\n", "0::/\n", None),
    ],
)
def test_our_place_in_the_hierarchy(mountinfo: str, membership: str, expected: tuple[str, str] | None) -> None:
    place = find_hierarchy(mountinfo, membership)
    assert (None if place is None else (str(place.mount), str(place.own))) == expected


# -- a made-up hierarchy


class Kernel:
    """The kernel's side of ``cgroupfs``, as far as we write to it: files in a folder, made when a cgroup is.

    Args:
        refused: files that cannot be written.
    """

    def __init__(self, root: Path, controllers: str = "cpu memory pids", refused: tuple[str, ...] = ()) -> None:
        self.mount = root / "cgroup"
        self.own = self.mount / "app.service"
        self.refused = refused
        for path in (self.mount, self.own):
            path.mkdir()
            self.fill(path, controllers)
        (self.mount / "cgroup.type").unlink()
        (self.own / "cgroup.procs").write_text(f"{os.getpid()}\n")

    @property
    def hierarchy(self) -> Hierarchy:
        return Hierarchy(self.mount, self.own)

    def fill(self, path: Path, controllers: str) -> None:
        files = {
            "cgroup.controllers": controllers, "cgroup.subtree_control": "", "cgroup.procs": "", "cgroup.kill": "",
            "cgroup.type": "domain",
        }  # fmt: skip
        if "memory" in controllers:
            files |= dict.fromkeys(("memory.max", "memory.high", "memory.swap.max", "memory.oom.group"), "max")
            files |= {"memory.current": "1000\n", "memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n"}
        if "pids" in controllers:
            files |= {"pids.max": "max", "pids.events": "max 7\n"}
        if "cpu" in controllers:
            files |= {"cpu.idle": "0", "cpu.weight": "100", "cpu.stat": "usage_usec 2500000\nuser_usec 1\n"}
        if (path / "cgroup.procs").exists():  # it is there, and only its controllers change
            del files["cgroup.procs"], files["cgroup.subtree_control"]
        for name, text in files.items():
            (path / name).write_text(text)

    def mkdir(self, path: Path, exist_ok: bool = False) -> None:
        if exist_ok and path.is_dir():
            return
        os.mkdir(path)
        if path.is_relative_to(self.mount):
            self.fill(path, (path.parent / "cgroup.subtree_control").read_text())

    def rmdir(self, path: Path) -> None:
        if path.is_relative_to(self.mount) and not (path / "cgroup.procs").read_text():
            for file in path.iterdir():
                if file.is_file():
                    file.unlink()
        os.rmdir(path)

    def write(self, path: Path, text: str) -> bool:
        if path.name in self.refused or not path.exists():
            return False
        if path.name == "cgroup.subtree_control":
            return self._hand_down(path, text)
        if path.name == "cgroup.procs":
            return self._move(path, text)
        path.write_text(text)
        return True

    def _hand_down(self, path: Path, text: str) -> bool:
        names = set(path.read_text().split())
        folder = path.parent
        if text[1:] not in (folder / "cgroup.controllers").read_text().split():
            return False
        if folder != self.mount and (folder / "cgroup.procs").read_text():
            return False  # the constraint of no internal processes
        names = names | {text[1:]} if text[0] == "+" else names - {text[1:]}
        path.write_text(" ".join(sorted(names)))
        for child in folder.iterdir():
            if child.is_dir():
                self.fill(child, path.read_text())
        return True

    def _move(self, path: Path, pid: str) -> bool:
        if (path.parent / "cgroup.subtree_control").read_text() and path.parent != self.mount:
            return False
        for file in self.mount.rglob("cgroup.procs"):
            file.write_text("".join(f"{other}\n" for other in file.read_text().split() if other != pid))
        path.write_text(f"{path.read_text()}{pid}\n")
        if pid == str(os.getpid()):
            self.own = path.parent
        return True


@pytest.fixture
def make_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Kernel]:
    def make(*args: str, **kwargs: tuple[str, ...]) -> Kernel:
        kernel = Kernel(tmp_path, *args, **kwargs)
        monkeypatch.setattr(cgroup_files, "write", kernel.write)
        monkeypatch.setattr(Path, "mkdir", lambda path, **options: kernel.mkdir(path, **options))
        monkeypatch.setattr(Path, "rmdir", lambda path: kernel.rmdir(path))
        return kernel

    return make


LIMITS = LimitsConfig(memory=500_000_000, memory_soft=400_000_000, threads=50, processes=10, cpu=0.5)


def texts(path: Path, *names: str) -> list[str]:
    return [(path / name).read_text() for name in names]


def test_limits_are_written_where_there_are_controllers(make_kernel: Callable[..., Kernel]) -> None:
    kernel = make_kernel()
    groups = Cgroups.open("net", hierarchy=kernel.hierarchy)
    assert groups.reason is None
    assert groups.path == kernel.mount / "app.service" / f"modvisor-net-{os.getpid()}"
    assert groups.means == {
        "membership": str(groups.path), "kill": "cgroup.kill", "memory": "memory.max", "pids": "pids.max", "cpu": "cpu.idle",
    }  # fmt: skip
    assert kernel.own == groups.path / "supervisor", "we made room"
    cgroup = groups.create("wiki.1", LIMITS)
    assert cgroup is not None
    assert texts(cgroup.path, "memory.max", "memory.high", "memory.swap.max", "memory.oom.group", "pids.max") == [
        "500000000", "400000000", "0", "1", "50",
    ]  # fmt: skip
    assert cgroup.enforced == {
        "memory": "cgroup memory.max", "memory_soft": "cgroup memory.high", "threads": "cgroup pids.max",
        "cpu": "cgroup cpu.idle",
    }  # fmt: skip
    assert (cgroup.memory(), cgroup.oom_kills(), cgroup.refused_forks()) == (1000, 1, 7)
    assert cgroup.idle(True)
    assert texts(cgroup.path, "cpu.idle") == ["1"]
    assert cgroup.idle(False)
    assert texts(cgroup.path, "cpu.idle") == ["0"]
    assert texts(kernel.own, "cpu.weight") == ["1000"], "the supervisor beside all mods"
    assert cgroup.weigh(True)
    assert texts(cgroup.path, "cpu.weight") == ["33"]
    assert cgroup.weigh(False)
    assert texts(cgroup.path, "cpu.weight") == ["100"]
    assert cgroup.cpu_seconds() == 2.5
    assert cgroup.add(4711)
    assert cgroup.pids() == {4711}
    assert cgroup.kill()
    kernel.write(kernel.mount / "cgroup.procs", "4711")  # it ended, as far as this cgroup is concerned
    base = groups.path.parent
    groups.close()
    assert texts(base, "cgroup.subtree_control") == [""]
    assert str(os.getpid()) in texts(base, "cgroup.procs")[0].split(), "we are back"
    assert not [path for path in base.iterdir() if path.is_dir()]
    groups.close()


def test_a_new_incarnation_never_gets_the_cgroup_of_an_old_one_that_is_about_to_be_removed(
    make_kernel: Callable[..., Kernel],
) -> None:
    """To remove a cgroup kills what is in it."""
    groups = Cgroups.open("net", hierarchy=make_kernel().hierarchy)
    old, new, newer = (groups.create("wiki.1", LIMITS) for _ in range(3))
    assert old is not None
    assert new is not None
    assert newer is not None
    assert len({old.path, new.path, newer.path}) == 3
    assert old.remove()
    assert new.path.is_dir()
    groups.close()


def test_what_has_no_limit_is_not_written(make_kernel: Callable[..., Kernel]) -> None:
    groups = Cgroups.open("net", hierarchy=make_kernel().hierarchy)
    cgroup = groups.create("wiki.1", LimitsConfig(threads=None))
    assert cgroup is not None
    assert texts(cgroup.path, "memory.max", "memory.swap.max", "pids.max") == ["max"] * 3
    assert cgroup.enforced == {}
    assert not cgroup.idle(True)
    assert cgroup.remove()
    groups.close()


def test_some_controllers_only(make_kernel: Callable[..., Kernel]) -> None:
    groups = Cgroups.open("net", hierarchy=make_kernel("pids").hierarchy)
    assert groups.reason is not None
    assert "controllers memory, cpu are not handed down" in groups.reason
    cgroup = groups.create("wiki.1", LIMITS)
    assert cgroup is not None
    assert cgroup.enforced == {"threads": "cgroup pids.max"}
    assert (cgroup.memory(), cgroup.oom_kills()) == (None, None)
    groups.close()


def test_what_the_kernel_refuses_is_not_claimed(make_kernel: Callable[..., Kernel]) -> None:
    groups = Cgroups.open("net", hierarchy=make_kernel(refused=("memory.max", "cpu.idle")).hierarchy)
    cgroup = groups.create("wiki.1", LIMITS)
    assert cgroup is not None
    assert "memory" not in cgroup.enforced
    assert not cgroup.idle(True)
    groups.close()


def test_controllers_that_are_not_handed_down_leave_membership(make_kernel: Callable[..., Kernel]) -> None:
    groups = Cgroups.open("net", hierarchy=make_kernel(refused=("cgroup.subtree_control",)).hierarchy)
    assert "refuses to hand down memory, pids, cpu" in str(groups.reason)
    assert groups.used
    cgroup = groups.create("wiki.1", LIMITS)
    assert cgroup is not None
    assert cgroup.enforced == {}
    groups.close()


def test_a_process_that_cannot_be_moved_leaves_membership(make_kernel: Callable[..., Kernel]) -> None:
    groups = Cgroups.open("net", hierarchy=make_kernel(refused=("cgroup.procs",)).hierarchy)
    assert "cannot be moved" in str(groups.reason)
    assert groups.used
    groups.close()


def test_two_networks_of_one_process(make_kernel: Callable[..., Kernel]) -> None:
    """The second finds this process in the first one's leaf, and both work; whoever goes first leaves the other alone."""
    kernel = make_kernel()
    base = kernel.own
    one = Cgroups.open("one", hierarchy=kernel.hierarchy)
    other = Cgroups.open("other", hierarchy=kernel.hierarchy)
    assert (one.reason, other.reason) == (None, None)
    assert other.path == base / f"modvisor-other-{os.getpid()}"
    one.close()
    assert kernel.own == base / f"modvisor-other-{os.getpid()}" / "supervisor"
    cgroup = other.create("wiki.1", LIMITS)
    assert cgroup is not None
    assert "memory" in cgroup.enforced
    other.close()
    assert kernel.own == base
    assert not [path for path in base.iterdir() if path.is_dir()]


def test_a_cgroup_with_other_processes_is_not_ours(make_kernel: Callable[..., Kernel]) -> None:
    kernel = make_kernel()
    (kernel.own / "cgroup.procs").write_text(f"1\n{os.getpid()}\n{os.getppid()}\n")
    groups = Cgroups.open("net", hierarchy=kernel.hierarchy)
    assert not groups.used
    assert "holds other processes too (pid 1" in str(groups.reason)
    assert groups.create("wiki.1", LIMITS) is None
    groups.close()


def test_the_root_of_a_container_is_ours_but_not_its_processes(make_kernel: Callable[..., Kernel]) -> None:
    if os.geteuid() != 0:
        pytest.skip("for root")
    kernel = make_kernel()
    (kernel.own / "cgroup.procs").write_text(f"1\n{os.getpid()}\n")
    groups = Cgroups.open("net", hierarchy=Hierarchy(kernel.own, kernel.own))
    assert groups.used
    assert "cannot hand down controllers while it holds other processes too (pid 1)" in str(groups.reason)
    assert texts(kernel.own, "cgroup.procs") == [f"1\n{os.getpid()}\n"]
    groups.close()


def test_a_threaded_cgroup_is_of_no_use(make_kernel: Callable[..., Kernel]) -> None:
    kernel = make_kernel()
    (kernel.own / "cgroup.type").write_text("threaded\n")
    assert "of type 'threaded'" in str(find_subtree(hierarchy=kernel.hierarchy).reason)


def test_switched_off() -> None:
    groups = Cgroups.open("net", allowed=False)
    assert (groups.used, groups.means) == (False, {})
    assert "cgroups: false" in str(groups.reason)
    assert groups.create("wiki.1", LIMITS) is None
    groups.close()


# -- this host's own


@pytest.fixture
def base() -> Iterator[Path]:
    """Where a network of this process may make its cgroups."""
    found = find_subtree()
    if found.base is None:
        pytest.skip(f"no cgroups here: {found.reason}")
    before = made_here(found.base)
    yield found.base
    assert made_here(found.base) <= before, "nothing is left"


def made_here(base: Path) -> set[Path]:
    """The groups of this process, and those that tests make for others; not those of other networks on this machine."""
    return {path for path in base.iterdir() if path.name.endswith((f"-{os.getpid()}", "-dead-999999", "-alive-1"))}


@pytest.fixture
def groups(base: Path) -> Iterator[Cgroups]:
    made = Cgroups.open("test")
    assert made.used
    yield made
    made.close()


@pytest.fixture
def start() -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def run(script: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


Start = Callable[[str], "subprocess.Popen[str]"]


def gone(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    due = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < due
        time.sleep(0.002)


DAEMON = """
import os, signal, sys
sys.stdin.readline()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        signal.pause()
    os._exit(0)
os.wait()
signal.pause()
"""


def test_nothing_escapes_and_all_of_it_is_killed_at_once(groups: Cgroups, start: Start) -> None:
    cgroup = groups.create("wiki.1", LIMITS)
    assert cgroup is not None
    process = start(DAEMON)
    assert cgroup.add(process.pid)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    daemon = int(process.stdout.readline())
    assert os.getsid(daemon) != process.pid
    assert cgroup.pids() == {process.pid, daemon}
    assert not cgroup.path.parent.joinpath("supervisor").exists() or groups.reason is None
    assert cgroup.kill()
    assert process.wait() == -signal.SIGKILL
    wait_until(lambda: gone(daemon))
    assert cgroup.remove()
    assert not cgroup.path.exists()
    assert cgroup.remove(), "again"


def test_one_that_still_has_processes_is_not_removed(
    groups: Cgroups, start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_REMOVE_ATTEMPTS", 2)
    cgroup = groups.create("wiki.1", LIMITS)
    assert cgroup is not None
    process = start(DAEMON)
    assert cgroup.add(process.pid)
    assert not cgroup.remove()
    assert "still has processes" in caplog.text
    process.kill()
    process.wait()
    assert cgroup.remove()


def test_cgroups_of_a_mod_of_its_own_are_its(groups: Cgroups, start: Start) -> None:
    cgroup = groups.create("wiki.1", LIMITS)
    assert cgroup is not None
    inner = cgroup.path / "inner"
    inner.mkdir()
    process = start(DAEMON)
    assert Cgroup(inner).add(process.pid)
    assert cgroup.pids() == {process.pid}
    assert cgroup.kill()
    assert process.wait() == -signal.SIGKILL
    assert cgroup.remove()


def test_a_crowd_in_a_cgroup_is_read_to_the_last(tmp_path: Path) -> None:
    pids = set(range(100_000, 110_000))
    (tmp_path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    assert Cgroup(tmp_path).pids() == pids
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "cgroup.procs").write_text("7\n")
    assert Cgroup(tmp_path).pids() == pids | {7}
    assert Cgroup(tmp_path / "gone").pids() == set()


def test_what_a_dead_network_left_is_cleared_away(base: Path, start: Start) -> None:
    left = base / "modvisor-dead-999999"
    (left / "wiki.1").mkdir(parents=True)
    process = start(DAEMON)
    assert Cgroup(left / "wiki.1").add(process.pid)
    groups = Cgroups.open("test")
    assert not left.exists()
    assert process.wait() == -signal.SIGKILL
    groups.close()


def test_what_a_living_network_has_is_left_alone(base: Path, start: Start) -> None:
    others = base / "modvisor-alive-1"
    others.mkdir()
    lock = os.open(others, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    groups = Cgroups.open("test")
    assert others.exists()
    groups.close()
    os.close(lock)
    Cgroups.open("test").close()
    assert not others.exists()


def test_a_process_that_is_gone_is_not_added(groups: Cgroups, start: Start) -> None:
    cgroup = groups.create("wiki.1", LIMITS)
    assert cgroup is not None
    process = start("pass")
    process.wait()
    assert not cgroup.add(process.pid)


# -- who killed it


def test_the_machine_counts_its_victims(tmp_path: Path) -> None:
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 1\noom_kill 3\nballoon 0\n")
    assert machine_oom_kills(str(vmstat)) == 3
    vmstat.write_text("nr_free_pages 1\n")
    assert machine_oom_kills(str(vmstat)) is None
    assert machine_oom_kills(str(tmp_path / "nothing")) is None


def test_a_verdict_counts_what_happened_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    count = [3]
    monkeypatch.setattr(oom, "machine_oom_kills", lambda: count[0])
    check = OomCheck()
    assert check.verdict() is None
    count[0] += 1
    assert "most likely" in str(check.verdict())


def test_the_count_of_its_own_cgroup_goes_before_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom_kill 0\n")
    count = [3]
    monkeypatch.setattr(oom, "machine_oom_kills", lambda: count[0])
    check = OomCheck(Cgroup(tmp_path))
    count[0] += 1
    assert check.verdict() is None, "it was another"
    events.write_text("oom_kill 1\n")
    assert check.verdict() == "killed by the kernel: its cgroup was out of memory"


def test_the_kernels_killer_is_recognised(start: Start) -> None:
    """A real one: in a child of our own memory cgroup (v1) of 60 MB."""
    group = memory_group()
    try:
        (group / "memory.limit_in_bytes").write_text("60000000")
        check = OomCheck()
        process = start("import sys; sys.stdin.readline(); held = []\nwhile True: held.append(b'x' * 1_000_000)")
        (group / "cgroup.procs").write_text(str(process.pid))
        assert check.verdict() is None
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.wait(20) == -signal.SIGKILL
        assert "most likely by the kernel's out-of-memory killer" in str(check.verdict())
    finally:
        group.rmdir()


def memory_group() -> Path:
    line = next((line for line in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in line), None)
    if line is None or os.geteuid() != 0:
        pytest.skip("needs root and a memory controller of cgroup v1")
    group = Path(f"/sys/fs/cgroup/memory{line.split(':', 2)[2]}") / f"modvisor-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made: {error}")
    return group
