"""Which network the options, the environment and the file mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from modvisor.supervisor.cli.client.target import find_target, storage_at_start, storage_of
from modvisor.supervisor.cli.settings import Settings
from modvisor.supervisor.cli.terminal.exits import CliError, ExitCode
from modvisor.supervisor.journal import StateDir


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "network.yaml"
    file.write_text(text)
    return file


def test_the_file_in_the_folder_is_the_default(tmp_path: Path) -> None:
    write(tmp_path, "network: {name: demo}")
    target = find_target(Settings())
    assert target.socket == tmp_path / ".modvisor" / "run" / "admin.sock"
    assert str(target) == "network.yaml"


def test_what_is_nearer_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "network: {name: demo, storage: state}")
    monkeypatch.setenv("MODVISOR_FILE", "elsewhere.yaml")
    monkeypatch.setenv("MODVISOR_URL", "http://127.0.0.1:8700/")
    monkeypatch.setenv("MODVISOR_TOKEN", "t")
    assert (find_target(Settings()).url, find_target(Settings()).token) == ("http://127.0.0.1:8700", "t")
    assert find_target(Settings(token="u")).token == "u"
    assert find_target(Settings(file=file)).socket == tmp_path / "state" / "run" / "admin.sock"
    assert find_target(Settings(socket=Path("a.sock"))).socket == tmp_path / "a.sock"
    monkeypatch.delenv("MODVISOR_URL")
    with pytest.raises(CliError, match=r"no network file elsewhere\.yaml; name the network with --file") as raised:
        find_target(Settings())
    assert raised.value.code is ExitCode.NO_NETWORK


@pytest.mark.parametrize("storage", ["/var/lib/x", "~/x", "x/../y", "deep/er"])
def test_storage_is_read_as_the_network_reads_it(tmp_path: Path, storage: str) -> None:
    from modvisor.supervisor.config.network.network_file import load_config

    file = write(tmp_path, f"network: {{name: demo, storage: {storage}}}")
    assert storage_of(file) == load_config(file).storage


@pytest.mark.parametrize(
    "text",
    [
        'network: {name: demo, "st\\x6frage": state}',
        "network: {name: demo, storage: state}",
        "x: &x {storage: state}\nnetwork: {name: demo, <<: *x}",
    ],
)
def test_a_storage_in_other_writing_is_found_beside_a_network_at_the_default_place(tmp_path: Path, text: str) -> None:
    (tmp_path / ".modvisor" / "run").mkdir(parents=True)
    (tmp_path / ".modvisor" / "run" / "admin.sock").touch()
    assert storage_of(write(tmp_path, text)) == tmp_path / "state"


@pytest.mark.parametrize(
    "text", ["network: {name: demo, prot: 1}", "mods: 7", "", "- a\n- list", "network: 3", "network: {storage: null}"]
)
def test_mistakes_elsewhere_do_not_matter(tmp_path: Path, text: str) -> None:
    assert storage_of(write(tmp_path, text)) == tmp_path / ".modvisor"


@pytest.mark.parametrize("text", ["network: {storage: [1]}", "network: [\n"])
def test_a_file_that_does_not_say_needs_the_socket(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(CliError, match="name the socket with --socket PATH") as raised:
        storage_of(file)
    assert raised.value.code is ExitCode.BAD_CONFIG
    assert "network.yaml:" in str(raised.value)
    (tmp_path / ".modvisor" / "run").mkdir(parents=True)
    (tmp_path / ".modvisor" / "run" / "admin.sock").touch()
    assert storage_of(file) == tmp_path / ".modvisor"


# -- nodes of a cluster


def node_folder(base: Path, name: str, *, runs: bool) -> tuple[Path, StateDir]:
    state = StateDir(base / ".modvisor" / "nodes" / name)
    if runs:
        state.acquire()
    else:
        state.root.mkdir(parents=True)
    return state.root, state


def test_a_node_that_runs_here_is_found_without_its_name(tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text("network: {name: demo}\ncluster: {}\n")
    node_folder(tmp_path, "a", runs=False)
    folder, state = node_folder(tmp_path, "b", runs=True)
    try:
        target = find_target(Settings(file=tmp_path / "network.yaml"))
        assert (target.storage, target.node) == (folder, None)
        assert str(target).endswith("network.yaml, node b")
    finally:
        state.release()


def test_a_named_node_that_runs_elsewhere_is_asked_for_at_one_that_runs_here(tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text("network: {name: demo}\ncluster: {}\n")
    folder, state = node_folder(tmp_path, "b", runs=True)
    try:
        target = find_target(Settings(file=tmp_path / "network.yaml", node="c"))
        assert (target.storage, target.node) == (folder, "c")
    finally:
        state.release()
    alone = find_target(Settings(file=tmp_path / "network.yaml", node="b"))
    assert (alone.storage, alone.node) == (folder, "b")
    assert alone.start.endswith("--node b")


def test_the_folder_of_a_start_is_that_of_its_node(tmp_path: Path) -> None:
    file = tmp_path / "network.yaml"
    file.write_text("network: {name: demo}\n")
    assert storage_at_start(file, None) == tmp_path / ".modvisor"
    file.write_text("network: {name: demo}\ncluster: {node: a}\n")
    assert storage_at_start(file, None) == tmp_path / ".modvisor" / "nodes" / "a"
    assert storage_at_start(file, "b") == tmp_path / ".modvisor" / "nodes" / "b"
    file.write_text("network: {name: demo}\ncluster: {node: a/b}\n")
    with pytest.raises(CliError, match="has 1 mistake"):
        storage_at_start(file, None)
