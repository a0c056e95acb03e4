"""Which addresses the network listens on without TLS, and what the section `tls` may say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modvisor.supervisor.config.network.network import NetworkConfig
from modvisor.supervisor.config.network.network_file import check_open, parse_config
from modvisor.supervisor.config.sections.audit import AuditConfig
from modvisor.supervisor.config.yaml.source import ConfigError


def config(tmp_path: Path, network: dict[str, object], **sections: object) -> NetworkConfig:
    return parse_config({"network": {"name": "demo", "port": 0, **network}, **sections}, base_dir=tmp_path)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "agents.example.com"])
def test_an_address_that_others_reach_needs_tls_or_a_word(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"network\.host: other machines can reach .*'network\.insecure: true'"):
        config(tmp_path, {"host": host})
    assert config(tmp_path, {"host": host, "insecure": True}).insecure
    assert config(tmp_path, {"host": host, "tls": {"cert": "a.pem", "key": "b.pem"}}).tls is not None
    assert config(tmp_path, {"host": host, "port": None}).port is None


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.0.1"])
def test_an_address_of_this_machine_needs_nothing(tmp_path: Path, host: str) -> None:
    assert config(tmp_path, {"host": host}).tls is None


def test_a_host_that_was_changed_afterwards_is_checked_too(tmp_path: Path) -> None:
    read = config(tmp_path, {})
    check_open(read)
    with pytest.raises(ConfigError, match=r"network\.host: other machines can reach 0\.0\.0\.0"):
        check_open(replace(read, host="0.0.0.0"))


@pytest.mark.parametrize(
    ("tls", "wrong"),
    [
        ({}, r"network\.tls\.cert: the key is missing"),
        ({"cert": "a.pem"}, r"network\.tls\.key: the key is missing"),
        ({"cert": "a", "key": "b", "client_required": True}, r"network\.tls\.client_ca: the key is missing"),
        ({"cert": "a", "key": "b", "ca": "c"}, r"network\.tls\.ca: unknown key"),
        ("cert.pem", r"network\.tls: expected a mapping"),
    ],
)
def test_a_section_that_cannot_work_is_refused(tmp_path: Path, tls: object, wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        config(tmp_path, {"tls": tls})


@pytest.mark.parametrize(("written", "mode"), [("off", "off"), (False, "off"), ("strict", "strict"), ({}, "strict")])
def test_the_audit_may_be_its_mode_alone(tmp_path: Path, written: object, mode: str) -> None:
    assert config(tmp_path, {}, audit=written).audit == AuditConfig(mode=mode)


def test_an_unknown_mode_of_the_audit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"audit\.mode: expected one of strict, best_effort, off, got 'on'"):
        config(tmp_path, {}, audit="on")
