"""What all tests share: the event loop, networks that are always shut down, mods written on the spot."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
from httpx import create_ssl_context
from hypothesis import HealthCheck, settings

from modvisor.supervisor import AgentNetwork
from modvisor.supervisor.clock import new_loop
from modvisor.supervisor.process.guarded import GuardedProcess, GuardianLauncher
from modvisor.supervisor.process.launch import Launch
from modvisor.supervisor.runtime import AUTO, LOOPS
from tests import warm
from tests.guardians import forked_guardians, is_possible, template_sockets, templates

pytest_plugins = ["tests.timeouts"]

# Neither a deadline per example nor the health check that times the making of examples: both compare with the clock, so a
# busy machine fails them. What takes too long is for pytest's own timeout. A failure prints the line that repeats it
# anywhere; the examples differ from run to run, so that many short runs find more than one does.
settings.register_profile(
    "modvisor",
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    derandomize=False,
)
settings.load_profile("modvisor")


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "how the workers of networks in the tests' own process come to be, where a test does not ask for more"
    parser.addoption("--launch", choices=("fork", "exec"), default="fork", help=text)
    text = "the event loop of networks in the tests' own process: as `modvisor run` chooses it, or one of the two"
    parser.addoption("--loop", choices=LOOPS, default=AUTO, help=text)


def pytest_configure(config: pytest.Config) -> None:
    _pass_no_ignored_signal_on()
    gc.disable()  # until all is collected: nearly all objects of a collection stay, and each search looks at them again


def _pass_no_ignored_signal_on() -> None:
    """Have the programs that tests start begin with signals as usual, also below ``nohup`` or in the background of a shell.

    An ignored signal is inherited. One with a handler is not, so this run goes on ignoring it by a handler that does nothing.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for signum in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:  # these two Python sees to
        if signal.getsignal(signum) == signal.SIG_IGN:
            signal.signal(signum, lambda _signum, _frame: None)


def pytest_collection_finish() -> None:
    """Keep what was collected out of each later search for garbage: that is most objects of the process, and they stay."""
    gc.enable()
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--launch") == "exec":
        skip = pytest.mark.skip(reason="about workers that are forked")
        for item in items:
            if item.get_closest_marker("forked") is not None:
                item.add_marker(skip)


TOLD = "told"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Add a line to the summary of the run, for example what fuzzing tried.

    The line travels with the report of its test, so it also comes from the processes of pytest-xdist.
    """
    return lambda line: record_property(TOLD, line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == TOLD:
                    terminalreporter.write_line(str(value))


ECHO = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Echo(BaseMod):
        version = "1.0"

        @mod_event_handler("test.ping")
        async def ping(self, event):
            return EventResponse(True, data={"pong": event.payload.get("i"), "version": self.version})
"""


@pytest.fixture(scope="session")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": partial(new_loop, request.config.getoption("--loop"))}


@pytest.fixture(scope="session", autouse=True)
def launched_as_asked(request: pytest.FixtureRequest) -> Iterator[None]:
    """With ``--launch exec`` every mod is as one with ``launch: exec``."""
    with pytest.MonkeyPatch.context() as patch:
        if request.config.getoption("--launch") == "exec":
            launch = GuardianLauncher.launch

            async def unforked(self: GuardianLauncher, asked: Launch) -> GuardedProcess:
                return await launch(self, replace(asked, fork=False))

            patch.setattr(GuardianLauncher, "launch", unforked)
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_guardians(bytecode_may_be_written: None) -> Iterator[None]:
    with forked_guardians() if is_possible() else nullcontext():
        yield


@pytest.fixture(scope="session", autouse=True)
def warm_python_ends() -> Iterator[None]:
    yield
    warm.close()


@pytest.fixture
def started_guardians(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests about guardians and what they fork: each is started as in production."""
    monkeypatch.setattr("modvisor.supervisor.process.guardian_process.subprocess", subprocess)


@pytest.fixture(scope="session", autouse=True)
def clients_built_quickly() -> Iterator[None]:
    """Have the clients of httpx share what none of them uses: here they speak plain HTTP.

    Each reads all certificates for a TLS context of its own (20 ms), and httpcore searches ``sys.path`` with each
    request for a package that is not installed.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", cache(create_ssl_context))
        if find_spec("sniffio") is None:
            patch.setitem(sys.modules, "sniffio", None)
        yield


@pytest.fixture(scope="session", autouse=True)
def bytecode_may_be_written() -> Iterator[None]:
    """PYTHONDONTWRITEBYTECODE in a shell would hide a worker that runs an outdated .pyc."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_child_is_left_unreaped() -> Iterator[None]:
    """Name the file that left a zombie: a later one would count it among its workers."""
    yield
    zombies = []
    for pid in child_pids():
        with suppress(psutil.NoSuchProcess, ChildProcessError):  # reaped meanwhile
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE and os.waitpid(pid, 0):
                zombies.append(pid)
    assert not zombies, "a test has ended a process and has not waited for it"


@pytest.fixture
def write_mod(tmp_path: Path) -> Callable[..., str]:
    """Write ``mods/NAME/mod.py`` (and other files) below tmp_path; returns the mod_path ``./NAME``."""

    def write(name: str, source: str = ECHO, **files: str) -> str:
        folder = tmp_path / "mods" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in {"mod": source, **files}.items():
            (folder / f"{file}.py").write_text(textwrap.dedent(text))
        return f"./{name}"

    return write


@pytest.fixture
async def make_network(tmp_path: Path) -> AsyncIterator[Callable[..., AgentNetwork]]:
    """Networks below tmp_path, given the file's other keys; shut down at the end whatever happens."""
    networks: list[AgentNetwork] = []

    def make(network: dict[str, Any] | None = None, **keys: Any) -> AgentNetwork:
        config = {"network": {"name": "test", "storage": "state", **(network or {})}, **keys}
        made = AgentNetwork.from_config(config, base_dir=tmp_path)
        networks.append(made)
        return made

    yield make
    for made in networks:
        await made.shutdown()


@pytest.fixture
async def network(make_network: Callable[..., AgentNetwork]) -> AgentNetwork:
    """A running network without mods."""
    made = make_network()
    await made.initialize()
    return made


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Wait for something that no event tells of (a state, a process); fails after ``timeout`` seconds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.002)


def open_files() -> set[str]:
    """The descriptors of this process and what they are.

    Passing looks of other threads are left out: the sampler's into /proc, and that into the cgroup of an incarnation that is
    to be removed.
    """
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        if int(fd) in template_sockets:
            continue
        with suppress(FileNotFoundError):
            target = os.readlink(f"/proc/self/fd/{fd}")
            if not target.startswith("/proc") and not re.match(r"/sys/fs/cgroup/.*modvisor-[^/]+/", target):
                found.add(f"{fd} {target}")
    return found


def child_pids() -> set[int]:
    """Direct children of this process, zombies included; without the template of its guardians."""
    children = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            children.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
    return children - templates


def worker_pids() -> set[int]:
    """The workers of the networks in this process, whoever is their parent; those that have ended and wait to be reaped too."""
    workers = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            ended = child.status() == psutil.STATUS_ZOMBIE and child.name() != "modvisor-warden"
            if ended or "modvisor.worker" in child.cmdline():
                workers.add(child.pid)
    return workers


__all__ = ["ECHO", "child_pids", "open_files", "until", "worker_pids"]
