"""What every launcher promises, with real processes. A worker's program is the real one, or a script that stands in for it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import textwrap
import venv
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.process.children import ExecLauncher
from modvisor.supervisor.process.guarded import GuardedProcess, GuardianLauncher
from modvisor.supervisor.process.interpreters import Interpreter, probe
from modvisor.supervisor.process.launch import Launch
from modvisor.supervisor.process.launcher import Launcher, make_launcher
from modvisor.supervisor.process.output import READ_SIZE
from modvisor.supervisor.process.process import DUMP_SIZE, Exit, WorkerProcess
from tests.conftest import child_pids, open_files, until
from tests.guardians import stand_ins, templates

pytestmark = pytest.mark.anyio

started = pytest.mark.usefixtures("started_guardians")
"""For tests about the guardian itself, and about what comes down to a worker from the supervisor."""

# On Linux the guardian launches by default, so the other launcher is tried with the slow tests.
KINDS = [
    pytest.param(ExecLauncher, marks=[pytest.mark.slow] if sys.platform == "linux" else []),
    pytest.param(
        GuardianLauncher, marks=pytest.mark.skipif(sys.platform != "linux", reason="the guardian is Linux only")
    ),
]


def guardian_only(test: Any) -> Any:
    """What belongs to nobody where there is no guardian."""
    test = pytest.mark.parametrize("kind", [GuardianLauncher], indirect=True)(test)
    return pytest.mark.skipif(sys.platform != "linux", reason="the guardian is Linux only")(test)


QUIET = Launch(lambda _data: None)
"""A worker whose output nobody reads."""

FROM_OUTSIDE = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP, signal.SIGUSR1)
"""Signals that somebody outside may send a process, so that whoever starts it may have had them ignored."""

# Stands in for the interpreter: a guardian is a guardian, a worker is a script.
INTERPRETER = """#!/bin/sh
case "$3" in
modvisor.worker) shift 3; exec {command} "$@" ;;
*) exec {python} "$@" ;;
esac
"""

WORKER = """
import os, signal, subprocess, sys, threading, time
from modvisor.worker import crash, lifeline

sock, pipe, dump = map(int, sys.argv[1:])
for fd in (sock, pipe, dump):
    os.set_inheritable(fd, False)
lifeline.hold(pipe)
crash.install(dump)

def wait():
    threading.Event().wait()

def child(code):
    return subprocess.Popen([sys.executable, "-c", code])

WAIT = "import threading; threading.Event().wait()"
"""


class Running:
    """A process and all it has printed."""

    def __init__(self) -> None:
        self.printed = bytearray()
        self.process: WorkerProcess

    def __call__(self, data: bytes) -> None:
        self.printed += data

    async def says(self, *words: str) -> list[int]:
        """Wait for a line that begins with ``words``; the numbers that follow."""
        wanted = " ".join(words)
        async with asyncio.timeout(20):
            while True:
                for line in self.printed.decode().splitlines(keepends=True):
                    if line.startswith(wanted) and line.endswith("\n"):
                        return [int(word) for word in line[len(wanted) :].split() if word.isdigit()]
                await self.process.next_output()

    async def exit(self, timeout: float = 10.0) -> Exit:
        async with asyncio.timeout(timeout):
            return await asyncio.shield(self.process.exited)


Start = Callable[..., Any]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> type[ExecLauncher] | type[GuardianLauncher]:
    return request.param


@pytest.fixture
async def make(kind: Any, tmp_path: Path) -> AsyncIterator[Callable[..., Launcher]]:
    """Launchers, closed at the end; with a script, or a command, their workers run that."""
    made: list[Launcher] = []

    def make(script: str | None = None, *, command: str = "", cwd: Path = tmp_path) -> Launcher:
        if script is not None:
            file = tmp_path / f"worker{len(made)}.py"
            file.write_text(WORKER + textwrap.dedent(script))
            command = f"'{sys.executable}' -u '{file}'"
        python = sys.executable
        if command:
            stand_in = tmp_path / f"python{len(made)}"
            stand_in.write_text(INTERPRETER.format(command=command, python=f"'{sys.executable}'"))
            stand_in.chmod(0o755)
            stand_ins.add(str(stand_in))
            python = str(stand_in)
        made.append(kind(cwd, python))
        return made[-1]

    yield make
    for launcher in made:
        await launcher.close()
    stand_ins.clear()


@pytest.fixture
async def run(make: Callable[..., Launcher]) -> AsyncIterator[Start]:
    """Start a worker that is a script (or the real one)."""
    socks: list[socket.socket] = []

    async def run(script: str | None = None, *, launcher: Launcher | None = None, **how: Any) -> Running:
        running = Running()
        running.process = await (launcher or make(script)).launch(Launch(running, **how))
        socks.append(running.process.sock)
        return running

    yield run
    for sock in socks:
        sock.close()


def gone(pid: int) -> bool:
    """Ended; a zombie may still wait for its parent."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# -- a start


async def test_the_worker_says_hello_on_its_socket(run: Start) -> None:
    running = await run()
    running.process.sock.setblocking(False)
    async with asyncio.timeout(10):
        first = await asyncio.get_running_loop().sock_recv(running.process.sock, 1000)
    assert b"hello" in first
    assert psutil.Process(running.process.pid).cmdline()[1:4] == ["-P", "-m", "modvisor.worker"]


async def test_a_worker_leads_its_session_and_group_and_works_where_it_should(run: Start, tmp_path: Path) -> None:
    running = await run("print('ids', os.getpid(), os.getpgrp(), os.getsid(0)); print('cwd', os.getcwd()); wait()")
    pid = running.process.pid
    assert await running.says("ids") == [pid, pid, pid]
    await running.says("cwd", str(tmp_path.resolve()))


@started
async def test_a_worker_inherits_nothing_but_what_it_needs(make: Any, run: Start) -> None:
    """Neither descriptors nor variables."""
    os.environ["A_SECRET_OF_THE_SUPERVISOR"] = "s3cret"
    try:
        status = "ls -l /proc/$$/fd; env; echo done; exit"
        running = await run(launcher=make(command=f"sh -c '{status}' sh"))
        await running.exit()
    finally:
        del os.environ["A_SECRET_OF_THE_SUPERVISOR"]
    told = running.printed.decode()
    assert "done" in told
    assert "s3cret" not in told
    fds = [line.split("->")[0].split()[-1] for line in told.splitlines() if " -> " in line]
    assert len(set(fds)) == 6, told


@pytest.fixture
def ignored_signals(started_guardians: None) -> Iterator[None]:
    """As under ``nohup``, in the background of a shell, and below somebody who blocks signals."""
    former = {signum: signal.signal(signum, signal.SIG_IGN) for signum in FROM_OUTSIDE}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGUSR2, signal.SIGTERM})
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for signum, handler in former.items():
        signal.signal(signum, handler)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("own_python", [False, True], ids=["", "own interpreter"])
async def test_a_worker_inherits_no_signal_that_is_ignored_or_blocked(
    run: Start, own_python: bool, ignored_signals: None
) -> None:
    running = await run(python=await probe(Path(sys.executable)) if own_python else None)
    running.process.sock.setblocking(False)
    async with asyncio.timeout(10):
        await asyncio.get_running_loop().sock_recv(running.process.sock, 1000)  # it has begun
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    masks = {
        name: int(value, 16) for name, value in re.findall(r"^(Sig(?:Ign|Blk|Cgt)):\t(\w+)$", status, re.MULTILINE)
    }
    own_of_libc = 0b11 << 31  # glibc's posix_spawn ignores the two signals it keeps for itself
    own_of_python = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    assert masks["SigIgn"] & ~own_of_libc == own_of_python
    assert masks["SigBlk"] == 0
    assert masks["SigCgt"] & 1 << signal.SIGINT - 1, "KeyboardInterrupt"
    assert not masks["SigCgt"] & 1 << signal.SIGCHLD - 1


@guardian_only
async def test_a_guardian_hears_of_its_children_though_the_supervisor_blocks_the_signal(
    make: Any, run: Start, ignored_signals: None
) -> None:
    running = await run(launcher=make("sys.exit(3)"))
    assert (await running.exit()).code == 3
    await until(lambda: gone(running.process.warden))


@pytest.mark.slow
async def test_many_are_launched_at_once(run: Start, make: Any) -> None:
    launcher = make("print('ready', os.getpid()); sys.exit(int(os.getpid()) % 100)")
    all_of_them = await asyncio.gather(*(run(launcher=launcher) for _ in range(20)))
    for running in all_of_them:
        exit = await running.exit(30)
        assert (exit.code, await running.says("ready")) == (running.process.pid % 100, [running.process.pid])
    assert len({running.process.pid for running in all_of_them}) == 20


async def test_what_cannot_be_started_is_an_os_error_and_leaves_nothing(make: Any, run: Start, tmp_path: Path) -> None:
    launcher = make(cwd=tmp_path / "nowhere")
    await launcher.start()
    before = open_files()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        await run(launcher=launcher)
    await until(lambda: open_files() == before)


async def test_an_interpreter_that_does_not_exist_is_an_os_error(kind: Any, tmp_path: Path) -> None:
    launcher = kind(tmp_path, str(tmp_path / "no-python"))
    before = open_files()
    with pytest.raises(OSError, match="no-python"):
        await launcher.launch(QUIET)
    await launcher.close()
    assert open_files() == before


async def test_under_an_interpreter_of_its_own_a_worker_says_hello_and_ends_as_any_other(
    run: Start, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment that has nothing, beside a variable that would lead it to ours."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "ours"))
    python = await probe(tmp_path / "venv" / "bin" / "python")
    launcher = make()
    running, ours = await run(launcher=launcher, python=python), await run(launcher=launcher)
    for each in (running, ours):
        each.process.sock.setblocking(False)
        async with asyncio.timeout(10):
            first = await asyncio.get_running_loop().sock_recv(each.process.sock, 1000)
        assert b"hello" in first, each.printed.decode()
    worker = psutil.Process(running.process.pid)
    assert worker.cmdline()[:2] == [str(tmp_path / "venv" / "bin" / "python"), "-P"]
    assert "modvisor.worker" in worker.cmdline()
    assert "PYTHONPATH" not in worker.environ()
    assert os.getsid(worker.pid) == worker.pid
    running.process.dump_stacks()
    await until(lambda: "serve" in running.process.stack_dump())
    running.process.kill()
    assert (await running.exit()).signal == signal.SIGKILL
    assert psutil.Process(ours.process.pid).environ()["PYTHONPATH"] == str(tmp_path / "ours")


async def test_an_interpreter_of_its_own_that_is_gone_by_now_is_an_os_error(make: Any, tmp_path: Path) -> None:
    launcher = make()
    await launcher.start()
    before = open_files()
    with pytest.raises(OSError, match="gone"):
        await launcher.launch(replace(QUIET, python=Interpreter(tmp_path / "gone", "3.11.0")))
    await until(lambda: open_files() == before)


async def test_a_launch_that_is_given_up_leaves_nothing(make: Any, run: Start) -> None:
    launcher = make("wait()")
    await launcher.start()
    before = open_files()
    for turns in range(12):
        launching = asyncio.create_task(launcher.launch(QUIET))
        for _ in range(turns):
            await asyncio.sleep(0)
        launching.cancel()
        await asyncio.wait([launching])
        if not launching.cancelled():
            process = launching.result()
            process.kill()
            await process.exited
            process.sock.close()
    await until(lambda: open_files() == before)
    mine = psutil.Process()
    await until(lambda: len({c.pid for c in mine.children(recursive=True) if not gone(c.pid)} - templates) <= 1)


@started
@guardian_only
async def test_a_launch_that_is_given_up_before_its_answer_is_read_ends_in_order(
    guarded: GuardianLauncher, caplog: pytest.LogCaptureFixture
) -> None:
    launching = asyncio.create_task(guarded.launch(QUIET))
    await asyncio.sleep(0)  # the order is on its way
    guardian = psutil.Process(guarded._guardian.pid)
    while not (wardens := guardian.children()) or not wardens[0].children() or wardens[0].status() != "sleeping":
        pass  # nor does the loop read anything
    (warden,) = wardens
    launching.cancel()
    await until(lambda: not guardian.children())
    assert gone(warden.pid)
    assert not [said for said in caplog.records if said.name != "modvisor.clock"], "it says that the loop stood still"


# -- an end


async def test_an_exit_code(run: Start) -> None:
    running = await run("sys.exit(3)")
    exit = await running.exit()
    assert (exit.code, exit.signal, exit.clean, str(exit)) == (3, None, False, "exit code 3")


async def test_a_signal(run: Start) -> None:
    exit = await (await run("os.kill(os.getpid(), signal.SIGTERM)")).exit()
    assert (exit.code, exit.signal, str(exit)) == (None, signal.SIGTERM, "signal SIGTERM")


@pytest.mark.slow
async def test_what_it_used(run: Start) -> None:
    running = await run("""
        memory = bytearray(60_000_000)
        while time.process_time() < 0.3: pass
        child("import time\\nwhile time.process_time() < 0.3: pass").wait()
    """)
    exit = await running.exit(20)
    assert exit.clean
    assert exit.usage is not None
    assert 0.55 < exit.usage.cpu_seconds < 3
    assert exit.usage.max_rss > 60_000_000
    if isinstance(running.process, GuardedProcess):  # one that we exec'd ourselves begins with our own size
        assert exit.usage.max_rss < 200_000_000


@started
@guardian_only
async def test_what_a_warden_did_not_read_does_not_drown_what_it_said(guarded: GuardianLauncher, run: Start) -> None:
    running = await run("wait()")
    running.process.kill()
    running.process.kill()
    while not gone(running.process.warden):
        pass
    exit = await running.exit()
    assert (exit.signal, exit.usage is None) == (signal.SIGKILL, False)


async def test_all_it_printed_was_taken_when_it_has_ended(run: Start) -> None:
    running = await run("print('x' * 50_000); print('last words'); sys.stdout.flush(); os._exit(0)")
    await running.exit()
    assert bytes(running.printed) == b"x" * 50_000 + b"\nlast words\n"


async def test_a_rate_of_output(run: Start) -> None:
    """Four seconds of the rate may be printed at once; then the worker waits."""
    loop = asyncio.get_running_loop()
    running = await run("while True: os.write(1, b'x' * 1000)", log_rate=4 * READ_SIZE)
    before = loop.time()
    await until(lambda: len(running.printed) >= 18 * READ_SIZE)
    assert loop.time() - before > 0.2


# -- stacks


async def test_a_dump_of_stacks_on_demand(run: Start) -> None:
    running = await run("def here(): print('ready'); wait()\nhere()")
    await running.says("ready")
    assert running.process.stack_dump() == ""
    dump = await running.process.dumped(10)
    assert "in here" in dump
    assert dump.rstrip().endswith("<module>")
    again = await running.process.dumped(10)
    assert again.startswith(dump)
    assert again.count("in here") == 2
    running.process.kill()
    await running.exit()
    assert running.process.stack_dump() == again
    assert again.encode() in bytes(running.printed), "where people look"


async def test_a_flood_of_output_does_not_hide_the_stacks(run: Start) -> None:
    running = await run("def flood():\n    print('ready')\n    while True: os.write(1, b'y\\n' * 1000)\nflood()")
    await until(lambda: len(running.printed) > 10 * READ_SIZE)
    assert "in flood" in await running.process.dumped(10)
    running.process.kill()
    await running.exit()
    assert "in flood" in bytes(running.printed[-5000:]).decode()


async def test_a_fatal_error_leaves_its_stacks(run: Start) -> None:
    running = await run("def there():\n    import ctypes; ctypes.string_at(0)\nthere()")
    exit = await running.exit()
    assert exit.signal == signal.SIGSEGV
    assert "Segmentation fault" in running.process.stack_dump()
    assert "in there" in running.process.stack_dump()


async def test_a_dump_file_has_an_end(run: Start) -> None:
    running = await run(f"""
        for _ in range({DUMP_SIZE} // 1000 + 10):
            with __import__("contextlib").suppress(OSError):
                os.write(dump, b"x" * 1000)
        print("full")
        wait()
    """)
    await running.says("full")
    running.process.dump_stacks()
    assert len(running.process.stack_dump()) <= DUMP_SIZE if sys.platform == "linux" else True
    running.process.kill()
    await running.exit()


async def test_a_stopped_worker_dumps_nothing_and_can_be_killed(run: Start) -> None:
    running = await run("print('ready'); os.kill(os.getpid(), signal.SIGSTOP)")
    await until(lambda: psutil.Process(running.process.pid).status() == psutil.STATUS_STOPPED)
    assert await running.process.dumped(0.2) == ""
    running.process.kill()
    assert (await running.exit()).signal == signal.SIGKILL


# -- a kill


async def test_a_kill_reaches_the_group(run: Start) -> None:
    running = await run("print('child', child(WAIT).pid); wait()")
    (child,) = await running.says("child")
    running.process.kill()
    assert (await running.exit()).signal == signal.SIGKILL
    await until(lambda: gone(child))
    running.process.kill()
    running.process.dump_stacks()


async def test_another_signal_reaches_the_group(run: Start) -> None:
    running = await run("""
        parent_is_ready, say_so = os.pipe()
        if (child := os.fork()) == 0:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
            os.read(parent_is_ready, 1)
            print("ready")
            while True: time.sleep(1)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
        os.write(say_so, b"!")
        while True: time.sleep(1)
    """)
    await running.says("ready")
    running.process.kill(signal.SIGTERM)
    assert (await running.exit()).code == 7


async def test_what_a_worker_leaves_in_its_group_ends_with_it(run: Start) -> None:
    running = await run("print('child', child(WAIT).pid); sys.exit(0)")
    assert (await running.exit()).clean
    (child,) = await running.says("child")
    await until(lambda: gone(child))


LEAVE = {
    "in a session of its own": "subprocess.Popen([sys.executable, '-c', say + WAIT], start_new_session=True)",
    "forked twice": """
        if os.fork() == 0:
            if os.fork() == 0:
                os.setsid()
                os.execv(sys.executable, [sys.executable, '-c', say + WAIT])
            os._exit(0)
        os.wait()
    """,
    "without environment": """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execve(sys.executable, [sys.executable, '-c', say + WAIT], {})
            os._exit(0)
        os.wait()
    """,
    "stopped": """
        subprocess.Popen([sys.executable, '-c', say + 'import os; os.kill(os.getpid(), 19)'], start_new_session=True)
    """,
    "deaf": """
        subprocess.Popen([sys.executable, '-c', 'import signal; [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15)];'
            + say + WAIT], start_new_session=True)
    """,
}
SAY = "say = 'import os; os.write(1, b\"left %d\\\\n\" % os.getpid());'\n"


@guardian_only
@pytest.mark.parametrize("how", LEAVE)
@pytest.mark.parametrize("end", ["kill", "exit", "crash"])
async def test_nothing_that_a_worker_leaves_outlives_it(make: Any, run: Start, how: str, end: str) -> None:
    finish = {"kill": "wait()", "exit": "sys.stdin.read(); sys.exit(0)", "crash": "os.kill(os.getpid(), 9)"}[end]
    launcher = make(SAY + textwrap.dedent(LEAVE[how]) + "\nos.read(sock, 1)\n" + finish)
    running = await run(launcher=launcher)
    (left,) = await running.says("left")
    assert not gone(left)
    running.process.kill() if end == "kill" else running.process.sock.send(b"!")
    exit = await running.exit()
    assert gone(left), "before the exit is told"
    assert (exit.code, exit.signal) == ((0, None) if end == "exit" else (None, signal.SIGKILL))


@guardian_only
async def test_orphans_of_a_living_worker_are_reaped_and_its_children_are_not(run: Start) -> None:
    running = await run("""
        own = child("raise SystemExit(7)")
        for _ in range(20):
            subprocess.run(["sh", "-c", "true & exit"])
        os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
        print("ready")
        os.read(sock, 1)
        print("own", own.wait())
        wait()
    """)
    await running.says("ready")
    warden, worker = psutil.Process(running.process.warden), psutil.Process(running.process.pid)
    await until(lambda: warden.children() == [worker])
    assert [child.status() for child in worker.children()] == [psutil.STATUS_ZOMBIE]
    running.process.sock.send(b"!")
    assert await running.says("own") == [7]


# -- nothing is left


async def test_nothing_is_left_after_many_cycles(make: Any, run: Start) -> None:
    launcher = make(command="sh -c 'exit 5' sh")
    await launcher.start()
    before = open_files(), child_pids()
    for _ in range(50):
        process = await launcher.launch(QUIET)
        assert (await process.exited).code == 5
        process.sock.close()
    assert (open_files(), child_pids()) == before


async def test_close_ends_every_worker(make: Any, run: Start) -> None:
    before = open_files(), child_pids()
    launcher = make("print('ready'); wait()")
    started = [await run(launcher=launcher) for _ in range(3)]
    await launcher.close()
    assert all(running.process.exited.done() for running in started)
    for running in started:
        running.process.sock.close()
    assert (open_files(), child_pids()) == before
    await launcher.close()


async def test_a_launch_that_comes_after_the_end_starts_nothing(make: Any) -> None:
    before = open_files(), child_pids()
    launcher = make("print('ready'); wait()")
    await launcher.start()
    await launcher.close()
    with pytest.raises(ModvisorError, match="the network stops"):
        await launcher.launch(QUIET)
    assert (open_files(), child_pids()) == before


def test_the_one_for_this_system(tmp_path: Path) -> None:
    assert isinstance(make_launcher(tmp_path), GuardianLauncher if sys.platform == "linux" else ExecLauncher)


# -- the guardian


@pytest.fixture
async def guarded(make: Any) -> GuardianLauncher:
    launcher = make("print('ready'); wait()")
    await launcher.start()
    return launcher


@started
@guardian_only
async def test_a_worker_costs_the_supervisor_four_descriptors(guarded: GuardianLauncher, run: Start) -> None:
    before = len(open_files())
    for _ in range(3):
        await run(launcher=guarded)
    assert len(open_files()) - before == 3 * 4


@started
@guardian_only
async def test_the_death_of_the_guardian_disturbs_no_worker(guarded: GuardianLauncher, run: Start) -> None:
    old = await run(launcher=guarded)
    assert guarded._guardian is not None
    os.kill(guarded._guardian.pid, signal.SIGKILL)
    new = await run(launcher=guarded)
    await asyncio.gather(old.says("ready"), new.says("ready"))
    assert not old.process.exited.done()
    old.process.kill(signal.SIGTERM)
    assert (await old.exit()).signal == signal.SIGTERM
    assert "most recent call first" in await new.process.dumped(5)


@started
@guardian_only
async def test_a_guardian_that_dies_over_a_launch(guarded: GuardianLauncher, run: Start) -> None:
    """At any moment: the launch goes on with another one, each worker is told of exactly once."""
    launches = [asyncio.create_task(run(launcher=guarded)) for _ in range(10)]
    await (await launches[0]).says("ready")
    assert guarded._guardian is not None
    os.kill(guarded._guardian.pid, signal.SIGKILL)
    started = await asyncio.gather(*launches)
    await asyncio.gather(*(running.says("ready") for running in started))
    await guarded.close()
    assert all(gone(running.process.pid) for running in started)


@started
@guardian_only
async def test_a_guardian_that_cannot_start_is_an_os_error_that_ends(
    make: Any, run: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken-python"
    broken.write_text("#!/bin/sh\necho no such module >&2\nexit 1\n")
    broken.chmod(0o755)
    launcher = GuardianLauncher(tmp_path, str(broken))
    before = open_files()
    with pytest.raises(OSError, match="guardian"):
        await launcher.launch(QUIET)
    await launcher.close()
    assert open_files() == before
    assert "no such module" in caplog.text
    assert "exit code 1" in caplog.text


@started
@guardian_only
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_worker_that_turns_on_its_warden_ends(
    make: Any, run: Start, signum: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modvisor.supervisor.process.guarded.DEAF", 0.1)
    launcher = make(SAY + f"""
subprocess.Popen([sys.executable, '-c', say + WAIT], start_new_session=True)
os.read(sock, 1)
os.kill(os.getppid(), {int(signum)})
print('done')
wait()
""")  # fmt: skip
    running = await run(launcher=launcher)
    (left,) = await running.says("left")
    running.process.sock.send(b"!")
    if signum == signal.SIGSTOP:
        await running.says("done")
        running.process.kill()
    exit = await running.exit()
    assert (exit.code, exit.signal) == (None, signal.SIGKILL)
    await until(lambda: gone(left))
    with suppress(ProcessLookupError):
        os.kill(running.process.warden, signal.SIGCONT)


@started
@guardian_only
async def test_a_stopped_guardian_is_continued_for_a_launch(guarded: GuardianLauncher, run: Start) -> None:
    """Whoever stopped it: a mod runs as the same user."""
    assert guarded._guardian is not None
    guardian = psutil.Process(guarded._guardian.pid)
    for _ in range(3):
        guardian.suspend()
        await until(lambda: guardian.status() == psutil.STATUS_STOPPED)
        async with asyncio.timeout(10):
            await (await run(launcher=guarded)).says("ready")
    guardian.suspend()
    await guarded.close()
    assert not guardian.is_running()


@started
@guardian_only
async def test_a_guardian_that_cannot_be_continued_is_replaced(
    guarded: GuardianLauncher, run: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubborn = guarded._guardian
    assert stubborn is not None
    stubborn.deaf, stubborn.dead = 0.05, 0.1  # of this one alone: the next needs longer to begin
    os.kill(stubborn.pid, signal.SIGSTOP)
    await until(lambda: psutil.Process(stubborn.pid).status() == psutil.STATUS_STOPPED)
    send = stubborn.send
    monkeypatch.setattr(stubborn, "send", lambda signum: signum == signal.SIGCONT or send(signum))
    async with asyncio.timeout(10):
        await (await run(launcher=guarded)).says("ready")
    assert stubborn.ended.done()


@started
@guardian_only
async def test_a_warden_that_dies_while_the_guardian_is_stopped(make: Any, run: Start) -> None:
    launcher = make("print('ready'); wait()")
    running = await run(launcher=launcher)
    await running.says("ready")
    os.kill(launcher._guardian.pid, signal.SIGSTOP)
    os.kill(running.process.warden, signal.SIGKILL)
    exit = await running.exit()
    assert (exit.code, exit.signal) == (None, signal.SIGKILL)
    await until(lambda: gone(running.process.pid))


@started
@guardian_only
async def test_signals_of_a_terminal_do_not_reach_the_guardian(guarded: GuardianLauncher, run: Start) -> None:
    running = await run(launcher=guarded)
    assert guarded._guardian is not None
    for pid in (guarded._guardian.pid, running.process.warden):
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.kill(pid, signum)
    await (await run(launcher=guarded)).says("ready")
    running.process.kill()
    assert (await running.exit()).signal == signal.SIGKILL


@started
@guardian_only
async def test_a_guardian_that_never_had_an_order_is_not_waited_for(
    kind: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be importing for long yet: here it never listens."""
    monkeypatch.setattr("modvisor.supervisor.process.guardian_process.GUARDIAN_END", float("inf"))
    deaf = tmp_path / "deaf-python"
    deaf.write_text("#!/bin/sh\nexec sleep infinity\n")
    deaf.chmod(0o755)
    before = open_files(), child_pids()
    launcher = kind(tmp_path, str(deaf))
    await launcher.start()
    guardian = launcher._guardian
    assert guardian is not None
    await launcher.close()
    assert guardian._popen.returncode == -signal.SIGKILL
    assert (open_files(), child_pids()) == before
    assert caplog.text == ""


@started
@guardian_only
async def test_a_guardian_that_had_an_order_ends_by_itself_after_its_wardens(
    guarded: GuardianLauncher, run: Start
) -> None:
    running = await run(launcher=guarded)
    guardian = guarded._guardian
    assert guardian is not None
    await guarded.close()
    assert guardian._popen.returncode == 0
    assert gone(running.process.warden)


@started
@guardian_only
async def test_a_guardian_that_preloads_ends_by_itself_with_what_its_modules_started(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has children then that only it knows of."""
    started = tmp_path / "started"
    (tmp_path / "starts_something.py").write_text(
        f"import subprocess\nopen({str(started)!r}, 'w').write(str(subprocess.Popen(['sleep', 'infinity']).pid))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    launcher = kind(tmp_path, preload=("starts_something",))
    await launcher.start()
    assert not gone(int(started.read_text()))
    await launcher.close()
    assert gone(int(started.read_text()))
