"""kill -9 of the supervisor at every step of a reload: its next life serves one version, and says which."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests import warm
from tests.processes.conftest import Marked
from tests.processes.test_reload import COUNTER

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="needs a guardian")]

# Where it is when it is killed: whose step, and which. "nobody": the new one is on probation, or accepted.
# One of each kind always, the others with the slow tests: a second for each.
ALWAYS = ["2.0 import", "nobody over"]
STEPS = [
    *ALWAYS,
    "1.0 get_state",
    "2.0 activate",
    "nobody probation",
    "2.0 initialize",
    "2.0 set_state",
    "1.0 deactivate",
    "2.0 check_ready",
]

# Each step of its life says that it has begun, and goes no further, if it is the one.
STOPS = """
        async def stop_at(self, name):
            with open(self.config["step"]) as file:
                if file.read() == f"{self.version} {name}":
                    print("at", name, flush=True)
                    await asyncio.Event().wait()

        async def initialize(self):
            self.counts, self.number = {}, 0
            await self.stop_at("initialize")

        async def get_state(self):
            await self.stop_at("get_state")
            return self.counts

        async def set_state(self, state, from_version):
            self.counts = state
            await self.stop_at("set_state")

        async def activate(self):
            await self.stop_at("activate")

        async def deactivate(self):
            await self.stop_at("deactivate")

        async def check_ready(self):
            await self.stop_at("check_ready")
"""

SUPERVISOR = """
import asyncio, logging, os, sys
from pathlib import Path
from modvisor.supervisor import AgentNetwork, Event

step, base = sys.argv[1], Path(sys.argv[2])

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

async def at(network, step):
    with network.follow_log("counter") as log:
        while f"at {step}" not in await log.get():
            pass
    say("at", step)

async def main():
    config = {"network": {"name": "n", "storage": "state"}}
    network = AgentNetwork.from_config(config, base_dir=base)
    await network.initialize()
    if step != "again":
        probation = 0.1 if step == "nobody over" else 60
        loaded = await network.load_mod("./counter", {"step": str(base / "step")}, probation=probation)
        assert loaded.success, loaded
    for _ in range(3):
        answer = await network.process_event(Event("count.up", "agent:alice"))
    say("serves", answer.data["version"], network.get_loaded_mods()["counter"]["version"])
    if step == "again":
        await network.shutdown()
        return
    who, _, name = step.partition(" ")
    (base / "step").write_text(step)
    os.replace(base / "next.py", base / "counter" / "mod.py")
    waiting = asyncio.create_task(at(network, name))
    reloaded = await network.reload_mod("counter")
    assert reloaded.success and who == "nobody", reloaded
    trial = base / "state" / "snapshots" / "counter.msgpack.trial"
    while name == "over" and trial.exists():  # until the new version is the one that a restart runs
        await asyncio.sleep(0.01)
    say("at", name)
    await asyncio.Event().wait()

logging.basicConfig(level="WARNING", stream=sys.stdout)
asyncio.run(main())
"""


def run(marked: Marked, base: Path, step: str, until: str | None = None) -> list[str]:
    """What a supervisor says, until it is killed for having said ``until``."""
    command = [sys.executable, "-c", SUPERVISOR, step, str(base)]
    with warm.Popen(command, stdout=subprocess.PIPE, env={**marked.variable, "PATH": ""}) as process:
        said = []
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line.rstrip())
            if said[-1] == until:
                process.kill()
        process.wait()
    assert until is None or until in said, said
    return said


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=() if step in ALWAYS else pytest.mark.slow) for step in STEPS]
)
async def test_one_version_serves_after_a_kill_of_the_supervisor(tmp_path: Path, marked: Marked, step: str) -> None:
    folder, name = tmp_path / "counter", step.partition(" ")[2]
    folder.mkdir()
    source = textwrap.dedent(COUNTER + STOPS)
    (folder / "mod.py").write_text(source)
    hangs = "\nprint('at import', flush=True)\nimport threading; threading.Event().wait()\n"
    new = source.replace('version = "1.0"', 'version = "2.0"')
    (tmp_path / "next.py").write_text(new + hangs if name == "import" else new)
    (tmp_path / "step").write_text("none")
    run(marked, tmp_path, step, until=f"at {name}")
    await marked.gone_within(1)
    (tmp_path / "step").write_text("none")
    said = run(marked, tmp_path, "again")
    version = "2.0" if name == "over" else "1.0"
    assert f"serves {version} {version}" in said, said
    assert any("mod counter starts from its last good version" in line for line in said), said
    assert marked.alive() == set()
