"""The network file of OpenAgents: what of it runs here, what is told, and what is refused."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config.network.network import NetworkConfig
from modvisor.supervisor.config.network.network_file import load_config, parse_config
from modvisor.supervisor.config.network.openagents_file import _NETWORK_KEYS
from modvisor.supervisor.config.yaml.source import ConfigError

HASH = hashlib.sha256(b"a long password").hexdigest()
WIKI = "openagents.mods.workspace.wiki"
PLAIN = (
    "this is a plain SHA-256, from which a password can be guessed fast; replace it by what 'modvisor hash-password' "
    "prints for the same password"
)
SMALLEST = "network: {name: Team, mode: centralized}\n"

FILE = f"""
network:
  name: Team Hub
  mode: centralized
  node_id: team-1
  transports:
    - {{type: grpc, config: {{port: 8600}}}}
    - {{type: http, config: {{host: 127.0.0.1, port: 8701}}}}
  agent_timeout: 180
  default_agent_group: guests
  agent_groups:
    admin:
      description: May do all
      password_hash: {HASH}
      metadata: {{permissions: [all]}}
    users:
      password_hash: {HASH.upper()}
  mods:
    - name: {WIKI}
      enabled: true
      config: {{max_page_size: 1000, note: "cost: ${{HOME}}"}}
    - name: openagents.mods.workspace.forum
      enabled: false
"""


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def load(text: str) -> NetworkConfig:
        (tmp_path / "network.yaml").write_text(text, "utf-8")
        return load_config("network.yaml")

    return load


@pytest.fixture
def mistakes(load):
    def mistakes(text: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text)
        return [line.removeprefix("network.yaml:").strip() for line in str(caught.value).splitlines()]

    return mistakes


def notices(config: NetworkConfig) -> list[str]:
    return [str(each).removeprefix("network.yaml:") for each in config.warnings]


def test_a_file_runs_as_it_is(load) -> None:
    config = load(FILE)
    assert (config.name, config.network_id, config.host, config.port) == ("Team Hub", "team-1", "127.0.0.1", 8701)
    assert config.agents.expire_after == 180
    assert config.agents.default_group == "guests"
    assert not config.agents.requires_password
    admin = config.agent_groups["admin"]
    assert (admin.description, admin.password_hash, admin.metadata) == ("May do all", HASH, {"permissions": ["all"]})
    assert admin.permissions == {"agents", "channels"}  # what OpenAgents permits this group
    assert config.agent_groups["users"].password_hash == HASH
    assert config.agent_groups["users"].permissions == frozenset()
    assert config.agent_groups["guests"].password_hash is None
    assert [(mod.path, mod.mod_id, mod.enabled) for mod in config.mods] == [
        (WIKI, "wiki", True),
        ("openagents.mods.workspace.forum", "forum", False),
    ]


def test_a_variable_in_their_file_is_plain_text_as_in_openagents(load) -> None:
    assert load(FILE).mods[0].config == {"max_page_size": 1000, "note": "cost: ${HOME}"}
    assert load("network: {name: T, mode: centralized, mods: [{name: a.b, config: {x: '${NOT_SET_ANYWHERE}'}}]}")


def test_it_listens_where_openagents_would(load) -> None:
    config = load(SMALLEST)
    assert (config.host, config.port) == ("0.0.0.0", 8700)
    assert any("listens on 0.0.0.0" in each for each in notices(config))
    assert config.insecure
    secure = load("network: {name: Team, mode: centralized, tls: {cert: c.pem, key: k.pem}}")
    assert (secure.insecure, secure.tls.cert.name) == (False, "c.pem")
    config = load("network: {name: T, mode: centralized, host: 127.0.0.1, port: 8570, transport: websocket}")
    assert (config.host, config.port) == ("127.0.0.1", 8570)
    config = load("network: {name: T, transports: [{type: grpc, config: {port: 1}}]}")
    assert config.port is None
    assert any("no transport of type http" in each for each in notices(config))


def test_agents_without_a_password_join_the_group_guest_unless_the_file_names_another_one(load) -> None:
    config = load(SMALLEST)
    assert config.agents.default_group == "guest"
    assert set(config.agent_groups) == {"guest"}


def test_a_network_that_requires_passwords_takes_no_agent_without_one(load) -> None:
    config = load(
        f"network: {{name: T, mode: centralized, requires_password: true, agent_groups: {{a: {{password_hash: {HASH}}}}}}}"
    )
    assert config.agents.registration == "group_password"
    assert config.agents.default_group is None


def test_what_has_no_counterpart_is_told_with_its_line(load) -> None:
    config = load(FILE + "  encryption_enabled: true\n  max_connections: 10\nlog_level: INFO\nruntime_limit: null\n")
    assert notices(config) == [
        "2: this is a network file of OpenAgents; 'modvisor import' writes the same as one of modvisor",
        "7: network.transports[0]: the transport grpc is ignored: agents reach modvisor over HTTP",
        "26: log_level: is ignored: say 'modvisor run --log-level debug'",
        "2: network: ignored, because modvisor has nothing like it: encryption_enabled, max_connections",
        f"14: network.agent_groups.admin.password_hash: {PLAIN}",
        f"17: network.agent_groups.users.password_hash: {PLAIN}",
    ]


def test_the_password_that_every_template_has_is_told(load) -> None:
    weak = hashlib.sha256(b"admin").hexdigest()
    config = load(f"network: {{name: T, mode: centralized, agent_groups: {{admin: {{password_hash: {weak}}}}}}}")
    assert any("the password is 'admin'" in each for each in notices(config))


def test_keys_of_modvisor_may_stand_in_their_file(load) -> None:
    text = f"""
network:
  name: T
  mode: centralized
  storage: data
  mods:
    - {{name: {WIKI}, limits: {{memory: 200MB}}, surprise: 1}}
agents: {{inbox_size: 7}}
redact: [ssn]
"""
    config = load(text)
    assert config.storage.name == "data"
    assert config.mods[0].limits.memory == 200_000_000
    assert config.agents.inbox_size == 7
    assert config.agents.default_group == "guest"
    assert config.redact == ("ssn",)
    assert any("network.mods[0].surprise: unknown key, ignored" in each for each in notices(config))


@pytest.mark.parametrize(
    ("hashed", "kind"),
    [
        ("$2b$12$KIXQ4v9sKq7G7rY0b4t1sOqj5F2Uq0b7a2pQ8o6f5v1c9h3d2e4fG", "a bcrypt hash"),
        ("$argon2id$v=19$m=65536", "an Argon2 hash"),
        ("mod_hash_12345", "a text of 14 characters"),
    ],
)
def test_a_hash_that_no_agent_could_prove_is_refused_without_repeating_it(mistakes, hashed: str, kind: str) -> None:
    (line,) = mistakes(
        f"network:\n  name: T\n  mode: centralized\n  agent_groups:\n    a: {{password_hash: '{hashed}'}}"
    )
    assert line.startswith("5: network.agent_groups.a.password_hash: expected a SHA-256")
    assert kind in line
    assert hashed not in line


def test_mistakes_name_the_keys_of_their_file(mistakes) -> None:
    text = """
network:
  name: T
  mode: decentralized
  node_id: "a b"
  transports:
    - type: http
      config: {port: many, tls: {enabled: true}}
  default_agent_group: g
  requires_password: true
  agent_groups:
    g: {description: none}
  mods:
    - {name: "not a path", config: {}}
    - {name: ./nowhere}
    - {enabled: true}
"""
    lines = mistakes(text)
    starts = [
        "4: network.mode: expected centralized, got 'decentralized'",
        "5: network.node_id: expected letters",
        "8: network.transports[0].config.tls: name the certificate in 'network.tls: {cert: FILE, key: FILE}'",
        "8: network.transports[0].config.port: expected a whole number",
        "12: network.agent_groups.g: needs a 'password_hash'",
        "14: network.mods[0].name: mod_path 'not a path'",
        "15: network.mods[1].name: no such mod",
        "16: network.mods[2].path: the key is missing",
    ]
    assert len(lines) == len(starts)
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_a_password_on_the_group_of_those_without_one_is_refused_as_in_openagents(mistakes) -> None:
    (line,) = mistakes(
        f"network: {{name: T, mode: centralized, default_agent_group: a, agent_groups: {{a: {{password_hash: {HASH}}}}}}}"
    )
    assert "the group 'a' has a password" in line


@pytest.mark.parametrize("text", ["network: {name: T}\nmods: []\n", "network: {name: T, port: 1}\nagent_groups: {}\n"])
def test_a_file_of_modvisor_is_never_taken_for_one_of_openagents(load, text: str) -> None:
    assert load(text).warnings == ()


def test_plain_data_in_their_shape_is_read_too(tmp_path: Path) -> None:
    data = {"network": {"name": "T", "mods": [{"name": WIKI, "enabled": True, "config": {"a": 1}}]}}
    config = parse_config(data, base_dir=tmp_path)
    assert [(mod.path, mod.config) for mod in config.mods] == [(WIKI, {"a": 1})]
    assert data["network"] == {"name": "T", "mods": [{"name": WIKI, "enabled": True, "config": {"a": 1}}]}


def test_a_section_that_stands_twice_is_refused(mistakes) -> None:
    lines = mistakes("network: {name: T, mode: centralized, mods: []}\nmods: []\n")
    assert lines == ["2: mods: stands in 'network' too; remove one of them"]


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70_000) | st.sampled_from(["http", "guest", "./a", HASH, "", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "config", "port", "name", "admin", "guest", "password_hash", "tls", "enabled"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
_KEYS = st.sampled_from([*_NETWORK_KEYS, "storage", "identity_enabled", "surprise"])


@given(network=st.dictionaries(_KEYS, _ANY, max_size=6), top=st.dictionaries(st.sampled_from(["agents", "mods"]), _ANY))
def test_any_file_of_this_shape_loads_or_is_reported(network: dict[str, Any], top: dict[str, Any]) -> None:
    data = {"network": {"mode": "centralized", **network}, **top}
    before = copy.deepcopy(data)
    with suppress(ConfigError):
        parse_config(data, base_dir="/")
    assert data == before


def _templates() -> list[Path]:
    found = importlib.util.find_spec("openagents")
    assert found is not None
    assert found.origin is not None
    return sorted((Path(found.origin).parent / "templates").glob("*/network.yaml"))


@pytest.mark.parametrize("file", _templates(), ids=lambda file: file.parent.name)
def test_every_template_of_openagents_loads_here(file: Path) -> None:
    config = load_config(file)
    assert config.port == 8700
    assert config.mods
    assert all(mod.path.startswith("openagents.mods.") for mod in config.mods)
