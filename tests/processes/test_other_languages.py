"""A worker in another language: the mod's ``command`` names it, and it lives like any mod."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event, EventResponse
from modvisor.supervisor.config.network.network_file import parse_config
from modvisor.supervisor.config.yaml.source import ConfigError
from modvisor.supervisor.sources.catalogue import available
from tests.conftest import until

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")

# The first lines start Python for a shell: a path with a space cannot stand behind "#!".
RAW = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
' '''
# A worker that knows the protocol and nothing of modvisor.
import os, socket, struct, sys, msgpack
assert "modvisor" not in sys.modules
sock = socket.socket(fileno=int(sys.argv[-3]))
stream = sock.makefile("rwb")
def send(message):
    body = msgpack.packb(message)
    stream.write(struct.pack(">I", len(body)) + body); stream.flush()
send([2, "hello", {{"protocol": 1, "pid": os.getpid(), "python": "raw", "modvisor": "1", "shelf": False}}])
while head := stream.read(4):
    kind, number, method, *params = msgpack.unpackb(stream.read(struct.unpack(">I", head)[0]), strict_map_key=False)
    if kind != 0:
        continue
    result = None
    if method == "load":
        result = {{"mod_class": "raw", "version": params[0]["version"] or "1.0", "description": "", "file": __file__,
                  "patterns": ["raw.*"], "observes": [], "resumable": False, "enforced": {{}}}}
    elif method == "event":
        if params[0]["event"]["event_name"] == "raw.crash":
            os._exit(3)
        data = {{"args": sys.argv[1:-3], "folder": os.path.dirname(__file__), "secret": os.environ.get("SECRET")}}
        result = {{"response": {{"success": True, "data": data}}}}
    elif method == "snapshot":
        result = {{}}
    elif method == "get_state":
        result = {{"state": None, "version": "1.0"}}
    send([1, number, None, result])
    if method == "shutdown":
        break
"""


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "mods" / "raw"
    folder.mkdir(parents=True)
    program = folder / "raw-worker"
    program.write_text(RAW.format(python=sys.executable))
    program.chmod(0o755)
    (folder / "mod.yaml").write_text("command: [./raw-worker, --loud, 010, '$HOME']\nversion: '2.0'\n")
    return program


async def ask(network: AgentNetwork, name: str, /, **payload: object) -> EventResponse:
    return await network.process_event(Event(name, "agent:a", payload=payload))


async def test_a_program_is_a_worker(network: AgentNetwork, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the network")
    loaded = await network.load_mod("./raw", max_attempts=1)
    assert loaded.success, loaded.message
    assert loaded.data["version"] == "2.0"
    answer = await ask(network, "raw.ask")
    assert answer.data == {"args": ["--loud", "010", "$HOME"], "folder": str(raw.parent), "secret": None}
    pid = network.get_loaded_mods()["raw"]["pid"]
    assert (await network.reload_mod("raw")).success
    assert network.get_loaded_mods()["raw"]["pid"] != pid
    assert (await ask(network, "raw.crash")).error == "dead_lettered"
    await until(lambda: network.get_loaded_mods()["raw"]["state"] == "ready")
    assert (await ask(network, "raw.ask")).success
    assert (await network.unload_mod("raw")).success


async def test_the_entry_of_a_mod_goes_before_its_mod_yaml(network: AgentNetwork, raw: Path, tmp_path: Path) -> None:
    shutil.copy(raw, tmp_path / "other")
    assert (await network.load_mod("./raw", command=["./other", "x"])).success
    assert (await ask(network, "raw.ask")).data["args"] == ["x"]
    assert (await ask(network, "raw.ask")).data["folder"] == str(tmp_path)


async def test_it_is_listed_among_the_mods_that_could_be_loaded(network: AgentNetwork, raw: Path) -> None:
    (found,) = [mod for mod in available(network.config) if mod.name == "raw"]
    assert (found.to_dict()["versions"], found.to_dict()["error"]) == (["2.0"], None)


async def test_a_program_that_is_gone_or_cannot_run_is_told(network: AgentNetwork, raw: Path) -> None:
    raw.chmod(0o644)
    refused = await network.load_mod("./raw")
    assert refused.error == "bad_config"
    assert "is not an executable file" in str(refused.message)
    raw.chmod(0o755)
    (raw.parent / "mod.yaml").unlink()
    assert (await network.load_mod("./raw", command=["./mods/raw/raw-worker"])).success
    raw.unlink()
    failed = await network.restart_mod("raw")
    assert failed.error == "bad_command", failed
    assert (await ask(network, "raw.ask")).success, "the old process serves"


async def test_a_program_that_says_nothing_is_told(network: AgentNetwork, raw: Path) -> None:
    raw.write_text("#!/bin/sh\necho no worker; exit 7\n")
    failed = await network.load_mod("./raw")
    assert not failed.success
    assert "exit code 7" in str(failed.message)
    raw.write_bytes(b"\x7fELF no program")
    failed = await network.load_mod("./raw")
    assert not failed.success
    assert "raw" in str(failed.message)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("./raw", "expected a list of a program and its arguments"),
        ([], "expected a list of a program and its arguments"),
        (["./none"], "none does not exist"),
        (["no-such-command"], "no command 'no-such-command' on PATH"),
        (["./mods"], "is not an executable file"),
        (["sh", True], "put it in quotes"),
        (["sh", "a\0b"], "contains a NUL"),
    ],
)
def test_a_wrong_command_is_a_mistake(raw: Path, tmp_path: Path, command: object, told: str) -> None:
    data = {"network": {"name": "a"}, "mods": [{"path": "./raw", "command": command}]}
    with pytest.raises(ConfigError) as caught:
        parse_config(data, base_dir=tmp_path)
    assert told in str(caught.value)


def test_python_and_command_exclude_each_other(raw: Path, tmp_path: Path) -> None:
    entry = {"path": "./raw", "command": ["sh"], "python": sys.executable}
    with pytest.raises(ConfigError, match="remove one"):
        parse_config({"network": {"name": "a"}, "mods": [entry]}, base_dir=tmp_path)


def _blocks(language: str) -> list[str]:
    page = PAGE[PAGE.index("## A whole worker") :]
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.mark.skipif(shutil.which("node") is None, reason="the example of the manual needs Node.js")
async def test_the_worker_of_the_manual(network: AgentNetwork, tmp_path: Path, write_mod: Callable[..., str]) -> None:
    folder = tmp_path / "mods" / "hello"
    folder.mkdir(parents=True)
    (mod_file,), (program,) = _blocks("yaml"), _blocks("javascript")
    (folder / "mod.yaml").write_text(mod_file)
    (folder / "hello.js").write_text(program)
    os.chmod(folder / "hello.js", 0o755)
    loaded = await network.load_mod("./hello", {"greeting": "Grüße"}, max_attempts=1)
    assert loaded.success, loaded.message
    first = await ask(network, "hello.greet", name="Anna", more=[1, -1, 70000, 2**40, 1.5, None, True, b"x", {"a": {}}])
    assert (first.message, first.data) == ("Grüße, Anna!", {"greeted": 1})
    assert (await network.reload_mod("hello")).success
    assert (await ask(network, "hello.greet", name="Bob")).data == {"greeted": 2}, "the state was handed over"
    assert (await ask(network, "hello.crash")).error == "dead_lettered"
    assert (await ask(network, "hello.greet", name="Eva")).message == "Grüße, Eva!"
    assert (await network.unload_mod("hello")).success
