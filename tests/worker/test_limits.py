"""Limits of a worker's own process, set and read in real children."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from modvisor.worker.dispatch import limit_of
from modvisor.worker.limits import OOM_STEP, Reserve

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux")

NOBODY = 65534

SCRIPT = """
import json, os, resource, sys
from modvisor.worker import limits
{before}
told = limits.apply(json.loads(sys.argv[1]))
{after}
"""

BECOME_NOBODY = f"""
import ctypes
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable, as a process is that was started by this user
"""


def child(limits: dict[str, Any], after: str, before: str = "") -> Any:
    """Return the JSON that a fresh process prints after it applied ``limits``."""
    script = SCRIPT.format(before=before, after=after)
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(limits)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def limits_of(limits: dict[str, Any], *names: str) -> list[list[int]]:
    return child(limits, f"print(json.dumps([resource.getrlimit(getattr(resource, name)) for name in {names!r}]))")


def test_each_key_becomes_its_rlimit() -> None:
    given = {"memory": 300_000_000, "disk": 5_000_000, "cpu_seconds": 7, "open_files": 100}
    names = ("RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_CPU", "RLIMIT_NOFILE", "RLIMIT_CORE")
    assert limits_of(given, *names) == [[300_000_000] * 2, [5_000_000] * 2, [7, 9], [100] * 2, [0, 0]]


def test_what_holds_is_told() -> None:
    given = {"memory": 300_000_000, "disk": None, "cpu_seconds": 7, "open_files": 100}
    told = child(given, "print(json.dumps(told))")
    assert told == {"memory": "RLIMIT_DATA", "cpu_seconds": "RLIMIT_CPU", "open_files": "RLIMIT_NOFILE"}


def test_without_limits_all_is_as_it_was() -> None:
    before = [list(resource.getrlimit(each)) for each in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE)]
    assert limits_of({}, "RLIMIT_DATA", "RLIMIT_NOFILE") == before


def test_a_limit_above_the_hard_one_becomes_that() -> None:
    before = "resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))"
    after = "print(json.dumps([told, resource.getrlimit(resource.RLIMIT_NOFILE)]))"
    assert child({"open_files": 100}, after, before) == [{"open_files": "RLIMIT_NOFILE"}, [60, 60]]


@on_linux
def test_the_kernel_takes_mods_first() -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    assert child({}, "print(open('/proc/self/oom_score_adj').read())") == min(1000, own + OOM_STEP)


@on_linux
def test_a_score_stays_in_its_range() -> None:
    before = "open('/proc/self/oom_score_adj', 'w').write('800')"
    assert child({}, "print(open('/proc/self/oom_score_adj').read())", before) == 1000


def test_a_file_that_grows_too_large_is_an_error_and_no_end() -> None:
    after = """
import tempfile
with tempfile.TemporaryFile() as file:
    try:
        for _ in range(100):
            file.write(bytes(100_000))
            file.flush()
    except OSError as error:
        print(json.dumps(error.errno))
    else:
        print(json.dumps(None))
    finally:
        os.ftruncate(file.fileno(), 0)
        try: file.close()
        except OSError: pass
"""
    assert child({"disk": 1_000_000}, after) == errno.EFBIG


@on_linux
def test_stacks_of_our_own_threads_come_on_top_of_the_memory() -> None:
    after = """
from concurrent.futures import ThreadPoolExecutor
import threading
here = threading.Barrier(20)
with ThreadPoolExecutor(20, initializer=limits.allow_stack) as pool:
    list(pool.map(lambda _: here.wait(), range(20)))
    grown = resource.getrlimit(resource.RLIMIT_DATA)[0]
    try: bytearray(110_000_000)
    except MemoryError: refused = True
    else: refused = False
print(json.dumps([grown - 100_000_000 - 20 * limits.stack_size(), refused]))
"""
    assert child({"memory": 100_000_000, "stacks": 20}, after) == [0, True]


IN_A_SPACE_OF_ITS_OWN = f"""
from modvisor.ipc.cell import Cell
from modvisor.worker.cell.apply import confine
from modvisor.worker.cell.files import Files
from modvisor.worker.guardian.spaces import Spaces
{BECOME_NOBODY}
spaces = Spaces(hooks=False)
space = spaces.of(Cell())
warden = spaces.fork(space) if space.flags else sys.exit(print("null"))
if warden:
    os.waitpid(warden, 0)
    sys.exit(0)
space.enter()
worker = os.fork()
if worker:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]))
confine(Cell(), Files(Cell(), space))
"""


@on_linux
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_processes_of_a_user_who_has_others_are_counted_apart() -> None:
    """Each of two workers may have ten tasks, and outside the user stays the same."""
    after = """
made, failed = [], None
for _ in range(30):
    try: pid = os.fork()
    except OSError as error:
        failed = error.errno
        break
    if pid == 0:
        import signal; signal.pause()
    made.append(pid)
answer = [told, len(made), failed, os.getuid(), os.getgid()]
for pid in made:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
print(json.dumps(answer), flush=True)
os._exit(0)
"""
    found = child({"tasks": 10}, after, IN_A_SPACE_OF_ITS_OWN)
    if found is None:
        pytest.skip("user namespaces are not allowed here")
    told, made, failed, uid, gid = found
    assert told == {"tasks": "RLIMIT_NPROC in a user namespace"}
    assert (made, failed) == (9, errno.EAGAIN)
    assert (uid, gid) == (NOBODY, NOBODY)


# -- the reserve


@on_linux
def test_a_reserve_counts_while_it_is_held_and_takes_no_memory() -> None:
    def figure(name: str) -> int:
        with open("/proc/self/status") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))

    reserve = Reserve(64 * 1024 * 1024)
    data, resident = figure("VmData"), figure("VmRSS")
    reserve.hold()
    reserve.hold()
    assert reserve.held
    assert figure("VmData") - data >= 64 * 1024 * 1024
    assert figure("VmRSS") - resident < 8 * 1024 * 1024
    reserve.release()
    reserve.release()
    assert not reserve.held
    assert figure("VmData") - data < 8 * 1024 * 1024


# -- the limit that a failure comes from


def raised_by(action: Any) -> BaseException:
    try:
        action()
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError("nothing was raised")


def fork_refused() -> None:
    def fork() -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    fork()


def socket_refused() -> None:
    def receive() -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    receive()


def wrapped() -> None:
    try:
        raise OSError(errno.EMFILE, "Too many open files", "x")
    except OSError as error:
        raise ValueError("cannot open x") from error


def in_a_group() -> None:
    raise ExceptionGroup("several", [ValueError(), ExceptionGroup("inner", [MemoryError()])])


def in_a_circle() -> None:
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    raise one


def fails(error: Exception) -> Any:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("action", "limit"),
    [
        (fails(MemoryError()), "memory"),
        (fails(OSError(errno.ENOMEM, "no memory")), "memory"),
        (fails(OSError(errno.EMFILE, "too many")), "open_files"),
        (fails(OSError(errno.ENFILE, "too many")), "open_files"),
        (fails(OSError(errno.EDQUOT, "quota")), "disk"),
        (fails(OSError(errno.EFBIG, "large")), "disk"),
        (fails(RuntimeError("can't start new thread")), "threads"),
        (wrapped, "open_files"),
        (in_a_group, "memory"),
        (fails(RuntimeError("can't")), None),
        (fails(OSError(errno.ENOSPC, "the disk itself is full")), None),
        (fails(OSError("without a number")), None),
        (fails(ValueError("x")), None),
        (socket_refused, None),
        (in_a_circle, None),
    ],
)
def test_a_failure_names_the_limit_it_tells_of(action: Any, limit: str | None) -> None:
    assert limit_of(raised_by(action)) == limit


@on_linux
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_fork_that_is_refused_is_told_from_other_eagains() -> None:
    after = """
found = []
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
def by_fork():
    os.fork()
def by_subprocess():
    subprocess.run(["true"])
def by_thread():
    threading.Thread(target=print).start()
for action in (by_fork, by_subprocess, by_thread):
    try: action()
    except Exception as error: found.append(limit_of(error))
    else: found.append("nothing")
print(json.dumps(found))
"""
    imports = "import subprocess, threading\nfrom modvisor.worker.dispatch import limit_of\n"
    script = SCRIPT.format(before=imports + BECOME_NOBODY, after=after)
    done = subprocess.run([sys.executable, "-c", script, "{}"], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["processes", "processes", "threads"]


def test_this_process_is_left_as_it_is() -> None:
    """The tests above must not have limited the one they run in."""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
