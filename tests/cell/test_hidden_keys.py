"""The private keys that the network file names are among what a cell hides."""

from __future__ import annotations

from pathlib import Path

from modvisor.supervisor.cell.profile import hidden_paths
from modvisor.supervisor.config.network.network_file import parse_config


def test_the_keys_of_tls_and_of_the_audit_are_hidden(tmp_path: Path) -> None:
    network = {"name": "demo", "tls": {"cert": "cert.pem", "key": "key.pem"}}
    config = parse_config({"network": network, "audit": {"key_file": "audit.key"}}, base_dir=tmp_path)
    for name in ("cert.pem", "key.pem", "audit.key"):
        (tmp_path / name).touch()
    found = hidden_paths(config, tmp_path / "state")
    assert {tmp_path / "key.pem", tmp_path / "audit.key"} <= set(found)
    assert tmp_path / "cert.pem" not in found
