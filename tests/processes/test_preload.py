"""Libraries that are imported before the workers are forked."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.config.network.network_file import parse_config
from modvisor.supervisor.network import StartError
from tests.conftest import until, worker_pids

pytestmark = [
    pytest.mark.usefixtures("started_guardians"),
    pytest.mark.anyio,
    pytest.mark.forked,
    pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked elsewhere"),
]

INNER = 2
"""The pid of every worker in the PID namespace of its cell."""

USER = """
    import sys
    before = set(sys.modules)
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class User(BaseMod):
        @mod_event_handler("user.ask")
        async def ask(self, event):
            import {library} as library
            return EventResponse(True, data=["{library}" in before, library.imported_by])
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Write a library that the network's Python finds; returns its name."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def write(source: str = "import os\nimported_by = os.getpid()\n") -> str:
        name = f"library_{uuid.uuid4().hex}"
        (folder / f"{name}.py").write_text(source)
        return name

    return write


Make = Callable[..., AgentNetwork]


async def test_a_forked_worker_begins_with_it(
    make_network: Make, write_mod: Callable[..., str], library: Callable[..., str]
) -> None:
    name = library()
    network = make_network({"preload": [name, "json.decoder"]})
    await network.initialize()
    guardian = network._running().mods._shared.launcher._guardian  # pyright: ignore
    path = write_mod("user", USER.format(library=name))
    for launch, expected in (("fork", [True, guardian.pid]), ("exec", [False, None])):
        loaded = await network.load_mod(path, launch=launch)
        assert loaded.success, loaded
        answer = await network.process_event(Event("user.ask", destination_id="mod:user"))
        assert answer.data == [expected[0], expected[1] or INNER]
        await network.unload_mod("user")


PREPARES = """
import ctypes, os
imported_by = []
prepare = ctypes.CFUNCTYPE(None)(lambda: imported_by.append(os.getpid()))
ctypes.CDLL(None).__register_atfork(prepare, None, None, None)
"""
"""Of native code, what pthread_atfork(3) calls: OpenBLAS ends its threads so."""


async def test_what_a_library_does_before_a_fork_is_done_before_workers_are_forked(
    make_network: Make, write_mod: Callable[..., str], library: Callable[..., str]
) -> None:
    name = library(PREPARES)
    network = make_network({"preload": [name]})
    await network.initialize()
    guardian = network._running().mods._shared.launcher._guardian  # pyright: ignore
    loaded = await network.load_mod(write_mod("user", USER.format(library=name)))
    assert loaded.success, loaded
    answer = await network.process_event(Event("user.ask", destination_id="mod:user"))
    assert answer.data is not None
    assert guardian.pid in answer.data[1], "the worker inherits what was done"


async def test_the_next_guardian_imports_it_too(
    make_network: Make, write_mod: Callable[..., str], library: Callable[..., str]
) -> None:
    name = library()
    network = make_network({"preload": [name]})
    await network.initialize()
    launcher = network._running().mods._shared.launcher
    former = launcher._guardian  # pyright: ignore
    os.kill(former.pid, signal.SIGKILL)
    await until(former.ended.done)
    assert (await network.load_mod(write_mod("user", USER.format(library=name)))).success
    answer = await network.process_event(Event("user.ask", destination_id="mod:user"))
    assert answer.data == [True, launcher._guardian.pid]  # pyright: ignore
    assert answer.data[1] != former.pid


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "ModuleNotFoundError: No module named"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt: "),
        ("import os\nos._exit(3)", "its import ended the process: exit code 3"),
        ("import time\ntime.sleep(60)", r"its import took more than 1 s (network.preload_timeout)"),
    ],
)
async def test_what_cannot_be_imported_is_told_at_the_start(
    make_network: Make, library: Callable[..., str], source: str | None, reason: str
) -> None:
    name = "no_such_library" if source is None else library(source)
    network = make_network({"preload": ["json", name], "preload_timeout": "1s"})
    with pytest.raises(StartError) as told:
        await network.initialize()
    assert str(told.value).startswith("network.preload: ")
    assert f"'{name}' cannot be imported: {reason}" in str(told.value)
    assert "install it" in str(told.value)
    assert not network.is_running
    assert worker_pids() == set()


async def test_a_change_needs_a_restart(network: AgentNetwork, tmp_path: Path) -> None:
    config = {"network": {"name": "test", "storage": "state", "preload": ["json"]}}
    changes = await network.reconfigure(parse_config(config, base_dir=tmp_path))
    assert changes.needs_restart == ["preload"]


async def test_a_module_that_starts_threads_is_named(
    make_network: Make, library: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    name = library(
        "import threading\nthreading.Thread(target=threading.Event().wait, name='watcher', daemon=True).start()\n"
    )
    network = make_network({"preload": ["json", name]})
    await network.initialize()
    (told,) = [record.getMessage() for record in caplog.records if "network.preload" in record.getMessage()]
    assert f"the import of '{name}' started threads (watcher)" in told


async def test_a_module_that_prints_without_end_and_closes_its_output_costs_nothing(
    make_network: Make, library: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    name = library("import os\nfor _ in range(10):\n    os.write(2, b'x' * 10_000)\nos.close(2)\n")
    network = make_network({"preload": [name]})
    await network.initialize()
    guardian = network._running().mods._shared.launcher._guardian  # pyright: ignore
    loop = asyncio.get_running_loop()
    await until(lambda: not loop.remove_reader(guardian._stderr))  # nobody listens to its end of file
    printed = [record.getMessage() for record in caplog.records if record.name == "modvisor.guardian"]
    assert sum(map(len, printed)) == 100_000
    assert max(map(len, printed)) < 50_000
