"""The section `cluster`, and what a file says for one node of it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.config.network.network import NetworkConfig
from modvisor.supervisor.config.network.network_file import at_node, parse_config
from modvisor.supervisor.config.sections.cluster import host_node, is_node_name
from modvisor.supervisor.config.yaml.source import ConfigError

SECRET = "ea1c5a9145c8606059e0a4c4"
TWO = {"servers": ["nats://10.0.0.5:4222", "10.0.0.6"], "secret": SECRET}


def config(tmp_path: Path, cluster: Any, **network: Any) -> NetworkConfig:
    return parse_config({"network": {"name": "My Team!", **network}, "cluster": cluster}, base_dir=tmp_path)


def mistakes(tmp_path: Path, cluster: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, cluster)
    return str(caught.value)


def test_without_the_section_there_is_no_cluster_and_the_state_stays_where_it_is(tmp_path: Path) -> None:
    alone = config(tmp_path, None)
    assert alone.cluster is None
    assert alone.storage == tmp_path / ".modvisor"


def test_an_empty_section_has_every_default(tmp_path: Path) -> None:
    cluster = config(tmp_path, {}).cluster
    assert cluster is not None
    assert (cluster.servers, cluster.secret, cluster.lease, cluster.replicas) == ((), None, 2.0, None)
    assert cluster.node == host_node()
    assert cluster.network == "my-team"


def test_servers_are_written_out(tmp_path: Path) -> None:
    cluster = config(tmp_path, {**TWO, "servers": ["10.0.0.6", "tls://nats.example.com", "nats://[::1]:1"]}).cluster
    assert cluster is not None
    assert cluster.servers == ("nats://10.0.0.6:4222", "tls://nats.example.com:4222", "nats://[::1]:1")


def test_a_node_has_its_own_folder_labels_and_address(tmp_path: Path) -> None:
    nodes = {"a": {"port": 8701, "labels": ["gpu", "eu"]}}
    file = config(tmp_path, {**TWO, "node": "z", "labels": ["eu"], "nodes": nodes}, port=8700)
    assert (file.port, file.storage) == (8700, tmp_path / ".modvisor" / "nodes" / "z")
    read = parse_config(
        {"network": {"name": "n", "port": 8700}, "cluster": {**TWO, "node": "a", "labels": ["eu"], "nodes": nodes}},
        base_dir=tmp_path,
    )
    assert read.cluster is not None
    assert (read.cluster.labels, read.port) == (("eu", "gpu"), 8701)
    assert read.storage == tmp_path / ".modvisor" / "nodes" / "a"


def test_an_id_with_other_letters_becomes_a_name_of_nats(tmp_path: Path) -> None:
    cluster = config(tmp_path, TWO, id="team.one@home").cluster
    assert cluster is not None
    assert cluster.network == "team-one-home"


def test_a_node_that_listens_for_everybody_needs_tls_as_a_network_does(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"other machines can reach 0\.0\.0\.0"):
        config(tmp_path, {**TWO, "node": "a", "nodes": {"a": {"host": "0.0.0.0"}}}, port=8700)


def test_a_node_of_a_file_without_the_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cluster: the key is missing, and 'b' is a node"):
        at_node(config(tmp_path, None), "b")


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [
        ({"servers": ["nats://10.0.0.5:4222"]}, "cluster.secret: the key is missing"),
        ({**TWO, "secret": "password-password"}, "cluster.secret: the secret can be guessed"),
        ({**TWO, "servers": ["nats://u:p@host:4222"]}, "a URL may hold no password"),
        ({**TWO, "servers": ["http://host"]}, "expected a URL such as nats://10.0.0.5:4222"),
        ({**TWO, "servers": ["nats://host:x"]}, "expected a URL such as nats://10.0.0.5:4222"),
        ({**TWO, "node": "../b"}, "cluster.node: expected 1 to 64 letters"),
        ({**TWO, "network": "a.b"}, "cluster.network: expected 1 to 64 letters"),
        ({**TWO, "labels": ["a b"]}, "cluster.labels[0]: expected 1 to 64 letters"),
        ({**TWO, "nodes": {"a/b": {}}}, "cluster.nodes.'a/b': expected 1 to 64 letters"),
        ({**TWO, "lease": "500ms"}, "cluster.lease: expected 1 to 60 seconds, got '500ms'"),
        ({**TWO, "replicas": 2}, "cluster.replicas: expected 1, 3 or 5, got 2"),
        ({**TWO, "nkey": "n", "credentials": "c"}, "cluster.nkey: 'credentials' says already how"),
        ({**TWO, "user": "u"}, "cluster.password: the key is missing; 'user' needs it"),
        ({**TWO, "tls": {"cert": "c"}}, "cluster.tls.key: the key is missing; 'cert' needs it"),
        ({**TWO, "server": []}, "did you mean 'servers'?"),
        ("yes", "expected a mapping"),
    ],
)
def test_mistakes(tmp_path: Path, cluster: Any, expected: str) -> None:
    assert expected in mistakes(tmp_path, cluster)


def test_the_message_does_not_show_the_secret(tmp_path: Path) -> None:
    assert "letmein" not in mistakes(tmp_path, {**TWO, "secret": "letmein"})


def test_a_host_name_always_names_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("box", "box.example.com", ".box", "a..b", "ö", "", "x" * 300, "my box", "a...b"):
        monkeypatch.setattr(socket, "gethostname", lambda name=name: name)
        assert is_node_name(host_node()), name
