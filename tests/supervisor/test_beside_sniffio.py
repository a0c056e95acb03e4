"""A network in a program of `asyncio.run`, in an environment with sniffio, which other libraries bring."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, os, signal, sys
import sniffio
from modvisor import AgentNetwork, Event

async def main():
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    config = {"network": {"name": "beside", "storage": "state"}, "mods": ["./echo"]}
    async with AgentNetwork.from_config(config, base_dir=sys.argv[1]) as network:
        pid = network.get_loaded_mods()["echo"]["pid"]
        os.kill(pid, signal.SIGKILL)
        while network.get_loaded_mods()["echo"]["pid"] in (pid, None):
            await asyncio.sleep(0.01)
        answer = await network.process_event(Event("test.ping", "agent:ann", payload={"i": 1}))
        print(answer.data, complaints)
    print(sniffio.thread_local.name)

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_mod_that_dies_is_restarted(write_mod: Callable[..., str], tmp_path: Path) -> None:
    """The end of its pipe is told in a plain callback, where sniffio finds no loop by itself."""
    assert find_spec("sniffio") is not None
    write_mod("echo")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == "{'pong': 1, 'version': '1.0'} []\nNone\n", done.stderr
