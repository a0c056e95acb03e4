"""Mods under interpreters of their own: virtual environments that have nothing of modvisor, other Pythons, broken ones."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until, worker_pids

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

TELLS = """
    import sys
    from importlib.util import find_spec
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Tells(BaseMod):
        version = "1.0"

        @mod_event_handler("test.ping")
        async def ping(self, event):
            import msgpack
            return EventResponse(True, data={
                "prefix": sys.prefix, "python": list(sys.version_info[:2]), "echo": event.payload,
                "msgpack": msgpack.Packer.__module__, "supervisor": find_spec("modvisor.supervisor") is not None,
                "seen": [name for name in ("anyio", "yaml", "psutil", "pytest", "msgspec") if find_spec(name)],
            })
"""


def newest(minors: range) -> str:
    """Return the newest other Python 3 of these minors that is found and runs. Skip the test if there is none.

    Runs when a test asks, not while tests are collected: each process of the tests collects them all.
    """
    beside = Path(sys.base_prefix).parent
    for minor in sorted(set(minors) - {sys.version_info.minor}, reverse=True):
        for python in (*beside.glob(f"*/bin/python3.{minor}"), shutil.which(f"python3.{minor}")):
            if python is not None and _runs(str(python)):
                return str(python)
    pytest.skip("no such Python is here")


def _runs(python: str) -> bool:
    return subprocess.run([python, "-c", "pass"], capture_output=True, check=False).returncode == 0


def make_venv(folder: Path) -> Path:
    venv.create(folder, with_pip=False, symlinks=True)
    return folder


def libraries(folder: Path) -> Path:
    (found,) = folder.glob("lib/python3*/site-packages")
    return found


async def told(network: AgentNetwork, mod: str) -> Any:
    payload = {"numbers": [1, -2, 2.5, 2**63], "text": "é" * 1000, "bytes": b"\0\xff", "none": None}
    response = await network.process_event(Event("test.ping", "agent:a", f"mod:{mod}", payload=payload))
    assert response.success, response
    assert response.data.pop("echo") == payload
    return response.data


async def test_in_a_venv_of_its_own_a_mod_has_what_it_needs_and_sees_nothing_of_ours(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    own = make_venv(tmp_path / "own")
    loaded = await network.load_mod(write_mod("tells", TELLS), python=str(own))
    assert loaded.success, loaded
    here = list(sys.version_info[:2])
    assert await told(network, "tells") == {
        "prefix": str(own), "python": here, "msgpack": "msgpack._cmsgpack", "supervisor": False, "seen": []
    }  # fmt: skip
    assert loaded.data["pid"] in worker_pids()
    os.kill(loaded.data["pid"], signal.SIGKILL)
    await until(lambda: network.get_network_stats()["mods"]["tells"]["restarts"] == 1)
    assert (await told(network, "tells"))["prefix"] == str(own)
    assert (await network.reload_mod("tells")).success
    assert (await network.unload_mod("tells")).success
    assert worker_pids() == set()


async def test_under_another_python_msgpack_is_the_one_that_fits_all(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    python = newest(range(11, 20))
    loaded = await network.load_mod(write_mod("tells", TELLS), python=python)
    assert loaded.success, loaded
    data = await told(network, "tells")
    assert f"python3.{data['python'][1]}" == Path(python).name
    assert (data["msgpack"], data["supervisor"]) in (("msgpack.fallback", False), ("msgpack._cmsgpack", False))


async def test_what_the_venv_has_goes_before_what_the_network_lends(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    """But a modvisor of its own would be another one than the network speaks to."""
    own = libraries(make_venv(tmp_path / "own"))
    network_msgpack = Path(sys.modules["msgpack"].__file__ or "").parent
    shutil.copytree(network_msgpack, own / "msgpack", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (own / "modvisor" / "mods").mkdir(parents=True)
    (own / "modvisor" / "mods" / "__init__.py").write_text("raise ImportError('another modvisor')\n")
    loaded = await network.load_mod(write_mod("tells", TELLS), python=str(tmp_path / "own" / "bin" / "python"))
    assert loaded.success, loaded
    assert (await told(network, "tells"))["msgpack"] == "msgpack.fallback"


async def test_a_package_of_the_networks_own_path_runs_in_a_venv_that_does_not_have_it(
    network: AgentNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundled one, and one on sys.path of the network: its own folder is all that comes along."""
    own = make_venv(tmp_path / "own")
    loaded = await network.load_mod("modvisor.mods.workspace.wiki", python=str(own))
    assert loaded.success, loaded
    page = {"path": "home", "title": "Home", "content": "hello"}
    assert (await network.process_event(Event("wiki.page.create", "agent:alice", payload=page))).success
    home = tmp_path / "elsewhere" / "team" / "mods" / "tells"
    home.mkdir(parents=True)
    (home / "mod.py").write_text("from modvisor import BaseMod\nfrom .words import WORD\n"
                                 "class Tells(BaseMod):\n    version = WORD\n")  # fmt: skip
    (home / "words.py").write_text("WORD = '7'\n")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    loaded = await network.load_mod("team.mods.tells", python=str(own))
    assert (loaded.success, (loaded.data or {}).get("version")) == (True, "7"), loaded


async def test_mod_yaml_may_name_it_relative_to_the_mods_folder(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    path = write_mod("tells", TELLS)
    own = make_venv(tmp_path / "mods" / "tells" / "venv")
    (tmp_path / "mods" / "tells" / "mod.yaml").write_text("python: venv\n")
    assert (await network.load_mod(path)).success
    assert (await told(network, "tells"))["prefix"] == str(own)
    assert (await network.load_mod(path, mod_id="ours", python=None)).success, "the network goes before"
    assert (await told(network, "ours"))["prefix"] == sys.prefix


def script(folder: Path, text: str) -> Path:
    file = folder / "python"
    file.write_text(text)
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\necho 'cannot find my library' >&2; exit 3\n", "(exit code 3): cannot find my library"),
        ("#!/bin/sh\nexit 0\n", "is no Python that runs (exit code 0): it said nothing"),
        ("#!/bin/sh\nkill -9 $$\n", "(signal 9)"),
        ("#!/no/such/interpreter\n", "cannot be run: No such file"),
        ("no format at all", "cannot be run: Exec format error"),
        ("#!/bin/sh\necho '[[3, 8, 1], null]'\n", "is Python 3.8.1; a mod needs 3.11 or newer"),
        ("#!/bin/sh\necho '[[3, 12, 1], [0, 6]]'\n", "has msgpack 0.6; a mod needs 1.0 or newer there, or none at all"),
    ],
)
async def test_one_that_cannot_run_a_mod_is_a_clear_failure(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path, text: str, said: str
) -> None:
    path = write_mod("tells", TELLS)
    failed = await network.load_mod(path, python=str(script(tmp_path, text)))
    assert failed.error == "bad_python", failed
    assert said in str(failed.message)
    assert network.get_loaded_mods() == {}
    assert worker_pids() == set()


async def test_one_that_hangs_is_a_clear_failure_and_nothing_of_it_is_left(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modvisor.supervisor.process.interpreters.TRIAL", 0.3)
    python = script(tmp_path, '#!/bin/sh\nsleep 600 &\necho $! > "$(dirname "$0")/pid"\nwait\n')
    failed = await network.load_mod(write_mod("tells", TELLS), python=str(python))
    assert failed.error == "bad_python"
    assert f"the interpreter {python} did not report its version within 0.3 s" in str(failed.message)
    left = int((tmp_path / "pid").read_text())
    await until(lambda: not psutil.pid_exists(left) or psutil.Process(left).status() == psutil.STATUS_ZOMBIE)


async def test_one_that_was_mended_is_tried_again_and_a_reload_leaves_the_old_one(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    path = write_mod("tells", TELLS)
    file = script(tmp_path, f"#!/bin/sh\nexec '{sys.executable}' \"$@\"\n")
    assert (await network.load_mod(path, python=str(file))).success
    script(tmp_path, "#!/bin/sh\nexit 4\n")
    failed = await network.reload_mod("tells")
    assert (failed.error, failed.data["step"]) == ("bad_python", "start")
    assert "the old one still serves" in str(failed.message)
    await told(network, "tells")
    script(tmp_path, f"#!/bin/sh\n\nexec '{sys.executable}' \"$@\"\n")
    assert (await network.reload_mod("tells")).success


async def test_a_real_python_that_is_too_old(network: AgentNetwork, write_mod: WriteMod) -> None:
    failed = await network.load_mod(write_mod("tells", TELLS), python=newest(range(8, 11)))
    assert (failed.error, failed.data["python"].startswith("3.")) == ("bad_python", True)


async def test_what_is_no_interpreter_is_a_bad_python(
    network: AgentNetwork, write_mod: WriteMod, tmp_path: Path
) -> None:
    path = write_mod("tells", TELLS)
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain").touch()
    for value, said in {
        "empty": "has no bin/python, so it is not a virtual environment",
        "nowhere/python": "nowhere/python does not exist; give a Python (3.11 or newer)",
        "no-such-command": "no-such-command does not exist",
        "plain": "plain is not executable",
    }.items():
        failed = await network.load_mod(path, python=value)
        assert (failed.error, said in str(failed.message)) == ("bad_python", True), failed
    dangling = make_venv(tmp_path / "dangling") / "bin" / "python"
    dangling.unlink()
    dangling.symlink_to(tmp_path / "gone")
    failed = await network.load_mod(path, python=str(dangling))
    assert failed.error == "bad_python"


CONFLICTING = """
    import inflection
    from importlib.metadata import version
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Words(BaseMod):
        version = "%s"

        @mod_event_handler("words.plural")
        async def plural(self, event):
            return EventResponse(True, data=[self.version, version("inflection"), inflection.pluralize(event.payload["word"])])
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_two_versions_of_a_mod_that_need_different_releases_of_a_library(
    make_network: Callable[..., AgentNetwork], write_mod: WriteMod, tmp_path: Path
) -> None:
    """Each in a virtual environment of its own, which its folder brings along; both serve at once, and come back."""
    for version, release in (("1.0", "0.3.1"), ("2.0", "0.5.1")):
        home = tmp_path / "mods" / "words" / "versions" / version
        write_mod(f"words/versions/{version}", CONFLICTING % version)
        make_venv(home / "venv")
        subprocess.run(
            [sys.executable, "-m", "pip", "--python", str(home / "venv"), "install", "--quiet", "--no-compile",
             "--disable-pip-version-check", f"inflection=={release}"],
            check=True, timeout=240,
        )  # fmt: skip
        (home / "mod.yaml").write_text("python: venv\n")
    network = make_network(
        mods=[
            {"path": "./words", "version": "1.0", "id": "words@1"},
            {"path": "./words", "version": "2.0", "id": "words@2"},
        ]
    )
    await network.initialize()

    async def plural(mod: str) -> Any:
        payload = {"word": "octopus"}
        response = await network.process_event(Event("words.plural", "agent:a", f"mod:{mod}", payload=payload))
        return response.data if response.success else response

    assert await plural("words@1") == ["1.0", "0.3.1", "octopi"]
    assert await plural("words@2") == ["2.0", "0.5.1", "octopi"]
    for mod in network.get_loaded_mods().values():
        os.kill(mod["pid"], signal.SIGKILL)
    await until(lambda: all(mod["restarts"] == 1 for mod in network.get_network_stats()["mods"].values()))
    assert await plural("words@1") == ["1.0", "0.3.1", "octopi"]
    assert await plural("words@2") == ["2.0", "0.5.1", "octopi"]
