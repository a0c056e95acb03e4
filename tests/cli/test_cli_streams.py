"""Standard streams that are closed, full, gone, slow, or of a poor encoding: commands fail, networks go on."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from modvisor.supervisor.cli.terminal.output import Output
from modvisor.supervisor.cli.terminal.streams import MAX_UNWRITTEN, CannotWrite, Outlet, _Sink, write_all
from tests import warm
from tests.conftest import until

from .conftest import COMMAND, DEADLINE, NETWORK, Command

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


class Lost:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        with suppress(OSError):
            os.close(fd)


def text_over(fd: int, encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(_Sink(fd, raises=True)), encoding, errors="replace", line_buffering=True)


# -- the outlet of a network that runs


async def test_a_reader_that_stands_still_holds_nobody_up(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    lost = Lost()
    outlet = Outlet(writer, "<stdout>", lost)
    line = b"x" * 9999 + b"\n"
    for _ in range(2 * MAX_UNWRITTEN // len(line)):
        outlet.put(line)
    assert 0 < lost.count < 2 * MAX_UNWRITTEN // len(line), "some are kept for it, the others are counted"
    first = os.read(reader, len(line))
    assert first == line[: len(first)], "it goes on where it stopped"


async def test_a_reader_that_has_gone_is_counted(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    lost = Lost()
    outlet = Outlet(writer, "<stdout>", lost)
    outlet.put(b"one\n")
    outlet.put(b"two\n")
    await until(lambda: lost.count == 2)


async def test_what_is_lost_is_told_when_it_can_be_written_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full, good = os.open("/dev/full", os.O_WRONLY), os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    lost = Lost()
    outlet = Outlet(full, "<stdout>", lost)
    outlet.put(b"one\n")
    await until(lambda: lost.count == 1)
    os.dup2(good, full)
    outlet.put(b"two\n")
    outlet.close()
    await until(lambda: "1 messages could not be written to <stdout>" in caplog.text)
    assert (tmp_path / "out").read_bytes() == b"two\n"
    os.close(full)
    os.close(good)


def test_a_pipe_that_somebody_made_non_blocking_gets_all(pipe: tuple[int, int], tmp_path: Path) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    data = os.urandom(300_000)
    with (tmp_path / "copy").open("wb") as copy, subprocess.Popen(["cat"], stdin=reader, stdout=copy) as cat:
        write_all(writer, data)
        os.close(writer)
        assert cat.wait(DEADLINE) == 0
    assert (tmp_path / "copy").read_bytes() == data


# -- commands


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_in_any_locale_is_complete_json(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    said = {"text": "grüße → 😀 \ud800"}
    monkeypatch.setattr(sys, "stdout", text_over(pipe[1], encoding))
    Output(as_json=True).item(said, str)
    assert json.loads(os.read(pipe[0], 10_000).decode(encoding)) == said


def test_text_that_the_locale_lacks_is_replaced(pipe: tuple[int, int]) -> None:
    print("grüße → 😀", file=text_over(pipe[1], "ascii"))
    assert os.read(pipe[0], 100) == b"gr??e ? ?\n"


def test_a_result_that_cannot_be_written_is_a_failure_of_its_own() -> None:
    with open("/dev/full", "wb") as full:
        stream = text_over(full.fileno(), "utf-8")
        with pytest.raises(CannotWrite) as failure:
            print("x", file=stream)
        assert failure.value.errno == errno.ENOSPC
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
        stream.close()


@pytest.mark.parametrize(("unbuffered", "printed"), [("1", "result\nnote\n"), ("", "note\nresult\n")])
def test_unbuffered_results_and_notes_come_in_their_order(unbuffered: str, printed: str) -> None:
    code = "import sys; from modvisor.supervisor.cli.terminal.streams import prepare; prepare(); "
    code += "print('result'); print('note', file=sys.stderr, flush=True)"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", code]
    with warm.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.communicate(timeout=DEADLINE)[0] == printed


def test_a_command_whose_output_cannot_be_written_says_so() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*COMMAND, "version"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=DEADLINE
        )
    assert (done.returncode, done.stderr) == (
        1,
        "error: cannot write to standard output: No space left on device\n",
    )


# -- a network


class Quiet:
    """``modvisor run``, started by a shell with these redirections; what it does is asked over its socket."""

    def __init__(self, folder: Path, redirections: str = "", **streams: int) -> None:
        (folder / "network.yaml").write_text(NETWORK)
        command = f'exec "$@" run {redirections}'
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
        self.process = subprocess.Popen(["sh", "-c", command, "sh", *COMMAND], cwd=folder, **given)  # type: ignore[call-overload]

    async def serves(self, cli: Command) -> None:
        await until(lambda: self.process.poll() is not None or cli("ps").exit_code == 0)
        assert json.loads(cli.ok("send", "test.ping", "--json"))["success"]
        cli.ok("reload", "echo")

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE)


@pytest.fixture
def quiet(tmp_path: Path, write_mod: Callable[..., str]) -> Iterator[Callable[..., Quiet]]:
    write_mod("echo")
    started: list[Quiet] = []

    def quiet(redirections: str = "", **streams: int) -> Quiet:
        started.append(Quiet(tmp_path, redirections, **streams))
        return started[-1]

    yield quiet
    for each in started:
        each.process.kill()
        each.process.wait(DEADLINE)


@pytest.mark.slow
async def test_a_network_without_usable_streams_serves_and_counts(quiet: Callable[..., Quiet], cli: Command) -> None:
    network = quiet("<&- >/dev/full 2>&-")
    await network.serves(cli)
    assert cli.json("stats")["supervisor"]["output_lost"] > 0, "'ready' at least"
    assert network.end() == 0


CLOSED = [
    "<&-",
    ">&-",
    "2>&-",
    "<&- >&-",
    "<&- 2>&-",
    ">&- 2>&-",
    "<&- >&- 2>&-",
    ">/dev/full 2>/dev/full",
    "1</dev/null",
]


@pytest.mark.slow
@pytest.mark.parametrize("redirections", CLOSED)
async def test_a_network_serves_whatever_its_streams_are(
    quiet: Callable[..., Quiet], cli: Command, redirections: str
) -> None:
    network = quiet(redirections)
    await network.serves(cli)
    assert network.end() == 0


@pytest.mark.slow
async def test_a_network_serves_when_its_terminal_has_gone(quiet: Callable[..., Quiet], cli: Command) -> None:
    ours, theirs = pty.openpty()
    network = quiet(stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    await network.serves(cli)
    os.close(ours)
    await network.serves(cli)
    assert network.end() == 0


@pytest.mark.slow
async def test_a_network_serves_while_nobody_reads_its_full_pipe(
    quiet: Callable[..., Quiet], cli: Command, pipe: tuple[int, int]
) -> None:
    os.set_blocking(pipe[1], False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe[1], b"x" * 4096)
    os.set_blocking(pipe[1], True)
    network = quiet(stdout=pipe[1], stderr=pipe[1])
    await network.serves(cli)
    assert network.end() == 0
