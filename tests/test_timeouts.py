"""What tests/timeouts.py is for: a test or a fixture that hangs costs its timeout, and what comes after it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HANGING = """
import asyncio
import time

import pytest

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(0.5)]

@pytest.fixture(params=["uvloop", "asyncio"], autouse=True)
def anyio_backend(request):
    from modvisor.supervisor.clock import new_loop
    return "asyncio", {"loop_factory": lambda: new_loop(request.param)}

@pytest.fixture
async def network():
    yield
    await asyncio.sleep(0)
    print("cleaned up")

async def test_waits(network):
    await asyncio.Event().wait()

async def test_waits_in_a_group(network):
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.Event().wait())

async def test_holds_the_loop(network):
    while True:
        time.sleep(0.01)

async def test_another_task_holds_the_loop(network):
    async def spin():
        while True:
            await asyncio.sleep(0)

    await asyncio.create_task(spin())

@pytest.fixture
async def stuck():
    await asyncio.Event().wait()

async def test_waits_for_a_fixture(stuck):
    pass

@pytest.mark.timeout(60)
async def test_runs(network):
    pass
"""


def test_what_hangs_is_ended(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    pytest.importorskip("uvloop")
    (tmp_path / "test_hanging.py").write_text(HANGING)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    command += ["-p", "tests.timeouts", "--tb", "native", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)]
    run = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, timeout=50)
    assert run.stdout.splitlines()[-1].startswith("8 failed, 2 passed, 2 errors"), run.stdout
    assert run.stdout.count("Failed: Timeout (>0.5s)") >= 8
    assert run.stdout.count("cleaned up") == 10
