"""The wheels: built from a copy of the sources, installed in a clean environment, and a network run from them."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import modvisor
import modvisor_client

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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_runs_a_network_in_a_clean_environment(tmp_path: Path) -> None:
    sources = copy_of_the_sources(tmp_path)
    wheel, client = wheel_of(sources, tmp_path), wheel_of(sources / "clients" / "python", tmp_path)
    listing = run(sys.executable, "-m", "zipfile", "-l", wheel, cwd=tmp_path)
    top = {line.split("/")[0] for line in listing.splitlines()[1:]}
    assert {name for name in top if not name.startswith("modvisor-")} == {"modvisor"}
    assert listing.count("py.typed") == 1

    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", client, wheel, cwd=tmp_path)
    (tmp_path / "run.py").write_text(SCRIPT)
    printed = run(python, "-I", tmp_path / "run.py", tmp_path / "net", cwd=tmp_path)
    assert printed.strip() == f"{['ready'] * 4} from the wheel True"
    assert run(python, "-P", "-m", "modvisor", "version", cwd=tmp_path).startswith("modvisor ")
    assert "validate" in run(tmp_path / "venv" / "bin" / "modvisor", "--help", cwd=tmp_path)
