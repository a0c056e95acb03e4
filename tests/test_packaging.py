"""The wheels: built from a copy of the sources, installed in a clean environment, and a network run from them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from anyio import to_thread

import modvisor
import modvisor_client
from modvisor import AgentNetwork

ROOT = Path(__file__).parent.parent

SCRIPT = """
import asyncio, sys
import modvisor
from modvisor import AgentNetwork, Event

async def main():
    mods = ["modvisor.mods.workspace." + name for name in ("wiki", "project", "messaging", "analytics")]
    async with AgentNetwork.from_config({"network": {"name": "wheel"}, "mods": mods}, base_dir=sys.argv[1]) as network:
        states = [mod["state"] for mod in network.get_loaded_mods().values()]
        payload = {"path": "home", "title": "Home", "content": "from the wheel"}
        await network.process_event(Event("wiki.page.create", "agent:alice", payload=payload))
        page = await network.process_event(Event("wiki.page.get", "agent:alice", payload={"path": "home"}))
        print(states, page.data["content"], modvisor.__file__.startswith(sys.prefix))

asyncio.run(main())
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_of_the_sources(tmp_path: Path) -> Path:
    sources = tmp_path / "sources"
    tracked = run("git", "ls-files", "-z", cwd=ROOT).split("\0")
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, sources / name)
    return sources


def wheel_of(sources: Path, tmp_path: Path) -> Path:
    """Build the wheel of the distribution in a folder."""
    dist = tmp_path / "dist" / sources.name
    run(sys.executable, "-m", "build", "--wheel", "--outdir", dist, sources, cwd=tmp_path)
    (wheel,) = dist.glob("*.whl")
    return wheel


def test_the_client_has_the_version_of_the_network_that_requires_it() -> None:
    assert modvisor_client.__version__ == modvisor.__version__
    major, minor = (int(part) for part in modvisor.__version__.split(".")[:2])
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"modvisor-client>={major}.{minor},<{major}.{minor + 1}" in dependencies


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheels of the network and of the client."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = copy_of_the_sources(folder)
    return wheel_of(sources, folder), wheel_of(sources / "clients" / "python", folder)


def environment(folder: Path, *installed: Path) -> Path:
    """Make an environment with these wheels, and what they require. Return its Python."""
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", *installed, cwd=folder)
    return python


def contents(wheel: Path) -> str:
    return run(sys.executable, "-m", "zipfile", "-l", wheel, cwd=wheel.parent)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_runs_a_network_in_a_clean_environment(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    listing = contents(wheels[0])
    top = {line.split("/")[0] for line in listing.splitlines()[1:]}
    assert {name for name in top if not name.startswith("modvisor-")} == {"modvisor"}
    assert listing.count("py.typed") == 1

    python = environment(tmp_path, *wheels)
    (tmp_path / "run.py").write_text(SCRIPT)
    printed = run(python, "-I", tmp_path / "run.py", tmp_path / "net", cwd=tmp_path)
    assert printed.strip() == f"{['ready'] * 4} from the wheel True"
    assert run(python, "-P", "-m", "modvisor", "version", cwd=tmp_path).startswith("modvisor ")
    assert "validate" in run(tmp_path / "venv" / "bin" / "modvisor", "--help", cwd=tmp_path)


CLIENT = """
import asyncio, sys
from importlib.util import find_spec
from pathlib import Path
import modvisor_client, modvisor_client.sync

async def main(url):
    async with modvisor_client.AgentClient(url, "ann", secret_file="secret") as me:
        mail = me.events("chat.*")
        print(await me.request("test.ping", {"i": 1}))
        await me.send("chat.large", {"name": "x"}, to="ann", files={"data": "large"})
        event = await mail.next(20)
        print(event.event_name, len(event.payload["data"]))

Path("large").write_bytes(bytes(2_000_000))
asyncio.run(main(sys.argv[1]))
absent = ("modvisor", "uvicorn", "starlette", "yaml", "msgspec", "psutil", "typer", "uvloop", "trio")
print([name for name in absent if find_spec(name)])
with modvisor_client.sync.AgentClient(sys.argv[1], "ann", secret_file="secret", leave=True) as me:
    print(me.request("test.ping", {"i": 2}))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.anyio
async def test_the_client_talks_to_a_network_from_a_clean_environment_with_it_alone(
    wheels: tuple[Path, Path], tmp_path: Path, make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str]
) -> None:
    listing = contents(wheels[1])
    top = {line.split("/")[0] for line in listing.splitlines()[1:]}
    assert {name for name in top if not name.startswith("modvisor_client-")} == {"modvisor_client"}
    assert listing.count("py.typed") == 1

    network = make_network({"port": 0}, mods=[write_mod("echo")])
    await network.initialize()
    python = await to_thread.run_sync(environment, tmp_path, wheels[1])
    (tmp_path / "agent.py").write_text(CLIENT)
    url = f"http://127.0.0.1:{network.port}"
    printed = await to_thread.run_sync(lambda: run(python, "-I", tmp_path / "agent.py", url, cwd=tmp_path))
    assert printed.splitlines() == [
        "{'pong': 1, 'version': '1.0'}",
        "chat.large 2000000",
        "[]",
        "{'pong': 2, 'version': '1.0'}",
    ]
    assert not network.agent_directory()
