"""What workers print: all of it is taken, but never so much at a time that others wait for it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.process import output
from modvisor.supervisor.process.children import ChildProcess
from modvisor.supervisor.process.launch import Launch
from modvisor.supervisor.process.output import LAST_OUTPUT, LINE_RATE, READ_SIZE
from modvisor.supervisor.process.process import DumpFile, Exit, WorkerProcess
from tests.conftest import open_files, until
from tests.pids import beside
from tests.processes.test_events import load

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]
Start = Callable[..., ChildProcess]

FLOOD = "import os\nwhile True: os.write(1, b'y\\n' * 1000)"
WAIT = "import threading; threading.Event().wait()"
CLOSE = "import os; os.close(1); os.close(2)\n"


class Printed:
    """Takes output, and counts it."""

    def __init__(self) -> None:
        self.data = bytearray()

    def __call__(self, data: bytes) -> None:
        self.data += data

    @property
    def lines(self) -> int:
        return self.data.count(b"\n")


@pytest.fixture
def printed() -> Printed:
    return Printed()


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process that runs a script instead of a worker's program; killed at the end whatever happens."""
    started: list[tuple[subprocess.Popen[bytes], ChildProcess]] = []

    def start(script: str, on_output: Callable[[bytes], None], **options: Any) -> ChildProcess:
        popen = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
        ours, theirs = socket.socketpair()
        theirs.close()
        started.append(
            (popen, ChildProcess(popen, ours, os.open(os.devnull, os.O_RDONLY), DumpFile(), Launch(on_output)))
        )
        return started[-1][1]

    yield start
    for popen, process in started:
        process.sock.close()
        popen.kill()
        popen.wait()


async def exit_of(process: WorkerProcess, timeout: float = 10.0) -> Exit:
    async with asyncio.timeout(timeout):
        return await process.exited


@pytest.fixture
def small_burst(monkeypatch: pytest.MonkeyPatch) -> float:
    """A flood is slowed down soon."""
    monkeypatch.setattr(output, "BURST", 0.01)
    return 0.01


def paused(process: WorkerProcess) -> bool:
    return process._output._pause is not None


# -- a flood


@pytest.mark.usefixtures("small_burst")
async def test_a_flooding_worker_waits_for_its_pipe(start: Start, printed: Printed) -> None:
    loop = asyncio.get_running_loop()
    before = loop.time()
    process = start(FLOOD, printed)
    await until(lambda: printed.lines > 3 * READ_SIZE)
    assert loop.time() - before > 2 * READ_SIZE / LINE_RATE - 0.1
    await until(lambda: paused(process))
    process.kill()
    await exit_of(process)


async def test_nothing_of_a_burst_is_delayed(start: Start, printed: Printed) -> None:
    process = start(f"for n in range(15_000): print(n)\n{WAIT}", printed)
    expected = "".join(f"{n}\n" for n in range(10_000)).encode()
    while not printed.data.startswith(expected):  # what print() itself still buffers is not ours
        assert not paused(process)
        await process.next_output()
    process.kill()
    await exit_of(process)


@pytest.mark.slow
@pytest.mark.usefixtures("small_burst")
async def test_nothing_of_a_flood_is_lost_or_changed(start: Start, printed: Printed) -> None:
    process = start("for n in range(5000): print('x' * 40, n)", printed)
    assert (await exit_of(process)).clean
    assert bytes(printed.data) == "".join(f"{'x' * 40} {n}\n" for n in range(5000)).encode()


async def test_a_flooding_mod_does_not_keep_others_waiting(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("echo"))
    await load(network, write_mod, "flood", """
        def activate(self):
            import subprocess
            self.yes = subprocess.Popen(["yes"])
    """)  # fmt: skip
    keeper = network._running().mods.find("flood")
    assert keeper is not None
    assert keeper.incarnation is not None
    process, log, sizes = keeper.incarnation.process, keeper.log, [0]

    def feed(data: bytes) -> None:
        sizes[-1] += len(data)
        log.feed(data)

    process._output._on_data = feed
    await until(lambda: paused(process))
    for i in range(100):
        sizes.append(0)
        answer = await network.process_event(Event("test.ping", "agent:alice", payload={"i": i}))
        assert answer.data["pong"] == i
    assert sorted(sizes[1:])[50] == 0, "most answers have no output read before them"


# -- the end


def flooding_itself(printed: Printed, write_end: int) -> Callable[[bytes], None]:
    """Takes output, and prints as much again: whoever reads until nothing is left reads for ever."""

    def on_output(data: bytes) -> None:
        printed(data)
        assert len(printed.data) < 20 * LAST_OUTPUT, "would not end"
        os.write(write_end, data)

    return on_output


async def test_a_flood_that_outlives_its_worker_is_not_read_for_ever(start: Start, printed: Printed) -> None:
    """The writer that outlives the worker is the test itself, so that it never falls behind."""
    process = start("import sys; sys.stdin.read()", printed, stdin=subprocess.PIPE)
    fd, stdin = process._output._fd, process._popen.stdin
    assert stdin is not None
    other = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
    try:
        process._output._on_data = flooding_itself(printed, other)
        process._loop.remove_reader(fd)  # what follows is read at its death only
        os.write(other, b"last words\n" * 1000)
        stdin.close()
        assert (await exit_of(process)).clean
        assert bytes(printed.data) == b"last words\n" * 1000
        with pytest.raises(BrokenPipeError):
            os.write(other, b"more")
    finally:
        os.close(other)


async def test_a_mod_leaves_a_flooder_behind_and_crashes(network: AgentNetwork, write_mod: WriteMod) -> None:
    await network.load_mod(write_mod("echo"))
    await load(network, write_mod, "leaver", """
        @mod_event_handler("leaver.flood")
        async def flood(self, event):
            import subprocess
            self.yes = subprocess.Popen(["yes"], start_new_session=True)
            return EventResponse(True, data=self.yes.pid)

        @mod_event_handler("leaver.go")
        async def go(self, event):
            os._exit(3)
    """, delivery="at_most_once")  # fmt: skip
    worker = network.get_loaded_mods()["leaver"]["pid"]
    flooder = psutil.Process(beside((await network.process_event(Event("leaver.flood"))).data, worker))
    try:
        assert (await network.process_event(Event("leaver.go"))).error == "mod_crashed"
        assert (await network.process_event(Event("test.ping", payload={"i": 1}))).data["pong"] == 1
        await until(lambda: not flooder.is_running() or flooder.status() == psutil.STATUS_ZOMBIE)
    finally:
        with suppress(psutil.NoSuchProcess):
            flooder.kill()


@pytest.mark.usefixtures("small_burst")
async def test_what_is_left_is_read_when_the_worker_dies_in_a_pause(start: Start, printed: Printed) -> None:
    process = start("print('\\n' * 20_000 + 'last words')", printed)
    await exit_of(process, timeout=2.0)  # at the rate of lines it would take four seconds
    assert bytes(printed.data) == b"\n" * 20_000 + b"last words\n"


@pytest.mark.parametrize("script", ["", FLOOD, CLOSE + WAIT, WAIT], ids=["ends", "in a pause", "closes it", "waits"])
@pytest.mark.usefixtures("small_burst")
async def test_nothing_is_left_behind(start: Start, printed: Printed, script: str) -> None:
    loop = asyncio.get_running_loop()
    before = open_files()
    process = start(script, printed)
    fd = process._output._fd
    if script == FLOOD:
        await until(lambda: paused(process))
    elif script.startswith(CLOSE):
        await until(lambda: process._output.closed)
    pause = process._output._pause
    process.kill()
    await exit_of(process)
    process.sock.close()
    assert process._output.closed
    assert not loop.remove_reader(fd)
    assert pause is None or pause.cancelled()
    assert not paused(process)
    process.dump_stacks()
    assert open_files() == before


async def test_a_descriptor_that_was_closed_is_not_read_again(start: Start, printed: Printed) -> None:
    """A worker closes its output; the number of our end is given to something else; then the worker ends."""
    process = start(CLOSE + WAIT, printed)
    fd = process._output._fd
    await until(lambda: process._output.closed)
    reading, writing = os.pipe()
    if writing == fd:  # the new pipe has got the number itself, but for its other end
        writing = os.dup(writing)
    if reading != fd:
        os.dup2(reading, fd)
    os.set_blocking(fd, False)
    os.write(writing, b"not yours")
    process.kill()
    await exit_of(process)
    assert os.read(fd, 100) == b"not yours"
    assert printed.data == b""
    for end in {fd, reading, writing}:
        os.close(end)


# -- stack dumps


async def test_a_flooding_mod_that_hangs_leaves_its_stack(network: AgentNetwork, write_mod: WriteMod) -> None:
    await load(network, write_mod, "noisy", """
        @mod_event_handler("noisy.go")
        async def go(self, event):
            while True:
                print("y", flush=True)
    """, limits={"hang_timeout": 0.4}, delivery="at_most_once")  # fmt: skip
    assert (await network.process_event(Event("noisy.go"))).error == "mod_crashed"
    log = network.mod_log("noisy", 1_000_000)
    (dumped,) = (index for index, line in enumerate(log) if " in go" in line)
    assert "mods/noisy/mod.py" in log[dumped]
    assert sum(line.endswith(" y") for line in log[:dumped]) > LINE_RATE, "it was flooding"


async def test_what_a_mod_prints_without_a_line_break_is_in_its_log_and_its_crash_report(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    await load(network, write_mod, "noisy", """
        @mod_event_handler("noisy.bar")
        def bar(self, event):
            for percent in range(101):
                os.write(2, b"\\r%3d%%" % percent)
            return EventResponse(True)

        @mod_event_handler("noisy.die")
        async def die(self, event):
            os.write(1, b"last words")
            os._exit(1)
    """, max_attempts=1)  # fmt: skip
    assert (await network.process_event(Event("noisy.bar", "agent:a"))).success
    await until(lambda: any(line.endswith("100%") for line in network.mod_log("noisy")))
    assert not (await network.process_event(Event("noisy.die", "agent:a"))).success
    assert network.get_crashes("noisy")[-1]["log"][-1].endswith(" last words")
    assert [line.partition(" ")[2] for line in network.mod_log("noisy")] == ["100%", "last words"]
