"""``modvisor import``: the network file of OpenAgents, written as one of modvisor."""

from __future__ import annotations

import hashlib
import importlib.util
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modvisor.supervisor.config import NetworkConfig, load_config

from .conftest import Command, Running

HASH = hashlib.sha256(b"a long password").hexdigest()
THEIRS = f"""
# A comment.
network:
  name: "Team: Hub"
  mode: centralized
  transports: [{{type: http, config: {{host: 127.0.0.1, port: 8701}}}}, {{type: grpc}}]
  agent_groups:
    users: {{password_hash: {HASH}, metadata: {{level: "1"}}}}
  mods:
    - name: openagents.mods.workspace.wiki
      enabled: true
      config: {{price: "$${{PRICE}} $5 ${{HOME}}", word: "yes", at: "12:30", version: "1.10"}}
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    file = tmp_path / "network.yaml"
    file.write_text(THEIRS, "utf-8")
    return file


def means(config: NetworkConfig) -> NetworkConfig:
    """What a file means, wherever in it that stands."""
    return replace(config, file=None, lines={}, warnings=())


def test_the_new_file_means_the_same_and_theirs_is_not_touched(cli: Command, theirs: Path, tmp_path: Path) -> None:
    done = cli("import", "network.yaml", "-o", "ours.yaml")
    assert done.exit_code == 0
    assert "ours.yaml is written" in done.stdout
    assert "network.transports[1]: the transport grpc is ignored" in done.stderr
    assert theirs.read_text("utf-8") == THEIRS
    ours = load_config(tmp_path / "ours.yaml")
    assert all("this is a plain SHA-256" in each.message for each in ours.warnings)
    assert means(ours) == means(load_config(theirs))
    assert ours.mods[0].config["price"] == "$${PRICE} $5 ${HOME}"


def test_without_a_name_the_new_file_is_printed(cli: Command, theirs: Path, tmp_path: Path) -> None:
    done = cli("import", "network.yaml")
    (tmp_path / "printed.yaml").write_text(done.stdout, "utf-8")
    assert means(load_config(tmp_path / "printed.yaml")) == means(load_config(theirs))


def test_programs_get_the_data_and_the_notices(cli: Command, theirs: Path) -> None:
    found = cli.json("import", "network.yaml")
    assert found["network"]["network"] == {"name": "Team: Hub", "host": "127.0.0.1", "port": 8701}
    assert [notice["key"] for notice in found["notices"]] == ["network.transports[1]"]


def test_a_file_that_is_there_is_not_overwritten(cli: Command, theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "ours.yaml").write_text("mine")
    done = cli("import", "network.yaml", "-o", "ours.yaml")
    assert done.exit_code == 1
    assert "is there already" in done.stderr
    assert (tmp_path / "ours.yaml").read_text() == "mine"


def test_a_file_with_mistakes_is_not_imported(cli: Command, theirs: Path, tmp_path: Path) -> None:
    theirs.write_text(THEIRS.replace(HASH, "secret"), "utf-8")
    done = cli("import", "network.yaml", "-o", "ours.yaml")
    assert done.exit_code == 4
    assert "network.agent_groups.users.password_hash" in done.stderr
    assert not (tmp_path / "ours.yaml").exists()


def test_a_file_of_modvisor_needs_no_import(cli: Command, theirs: Path) -> None:
    theirs.write_text("network: {name: demo}\n", "utf-8")
    done = cli("import", "network.yaml")
    assert done.exit_code == 2
    assert "is no network file of OpenAgents" in done.stderr


def test_validate_takes_their_file_as_it_is(cli: Command, theirs: Path) -> None:
    done = cli("validate", "network.yaml")
    assert done.exit_code == 0
    assert "'Team: Hub' with 1 mod: wiki" in done.stdout
    assert "this is a network file of OpenAgents" in done.stderr


RUNNABLE = """
network:
  name: Theirs
  mode: centralized
  transports: [{type: http, config: {host: 127.0.0.1, port: 0}}]
  mods:
    - {name: ./echo, enabled: true, config: {word: first}}
"""


def test_their_file_runs_and_is_read_again_and_never_written(start: Callable[..., Running], tmp_path: Path) -> None:
    running = start(network=RUNNABLE)
    (ready,) = [said for said in running.said if said["happened"] == "ready"]
    assert ready["name"] == "Theirs"
    assert ready["host"] == "127.0.0.1"
    assert ready["port"] > 0
    assert [(mod["mod_id"], mod["state"]) for mod in ready["mods"]] == [("echo", "ready")]
    assert "this is a network file of OpenAgents" in running.stderr
    file = tmp_path / "network.yaml"
    assert file.read_text() == RUNNABLE
    changed = RUNNABLE.replace("first", "second")
    file.write_text(changed)
    running.process.send_signal(signal.SIGHUP)
    assert list(running.until("reconfigured")["changed"]) == ["echo"]
    assert running.end() == 0
    assert file.read_text() == changed


@pytest.mark.slow  # starts OpenAgents' mods
def test_the_template_with_most_mods_runs_as_it_is(start: Callable[..., Running]) -> None:
    found = importlib.util.find_spec("openagents")
    assert found is not None
    assert found.origin is not None
    template = Path(found.origin).parent / "templates" / "default_network" / "network.yaml"
    running = start("--host", "127.0.0.1", "--port", "0", network=template.read_text("utf-8"))
    (ready,) = [said for said in running.said if said["happened"] == "ready"]
    states = {mod["mod_id"]: mod["state"] for mod in ready["mods"]}
    assert {mod_id for mod_id, state in states.items() if state == "ready"} >= {
        "default", "messaging", "forum", "wiki", "project",
    }  # fmt: skip
    assert running.end() == 0
