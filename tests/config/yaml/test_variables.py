"""Variables of the environment in a network file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.cli.client.target import storage_of
from modvisor.supervisor.config.mods.mod_file import ModFile, mod_file_keys
from modvisor.supervisor.config.network.network import NetworkConfig
from modvisor.supervisor.config.network.network_file import load_config, parse_config
from modvisor.supervisor.config.yaml.source import ConfigError
from modvisor.supervisor.config.yaml.variables import BadVariable, replace_variables

ENV = {"HOST": "10.0.0.1", "PORT": "8700", "EMPTY": "", "LIKE": "${PORT}"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${HOST}", "10.0.0.1"),
        ("http://${HOST}:${PORT}/", "http://10.0.0.1:8700/"),
        ("${NONE:-a b:-c}", "a b:-c"),
        ("${NONE:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("${HOST:-x}", "10.0.0.1"),
        ("$${HOST} costs $$5, or $5", "${HOST} costs $5, or $5"),
        ("^a$ $HOME $", "^a$ $HOME $"),
        ("${LIKE}", "${PORT}"),  # a value is not looked into
    ],
)
def test_variables_are_replaced(text: str, value: str) -> None:
    assert replace_variables(text, ENV) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("${NONE}", "the environment variable NONE is not set"),
        ("${}", "expected ${VAR}"),
        ("${HOST", "expected ${VAR}"),
        ("${A-b}", "expected ${VAR}"),
        ("${A:-${B}}", "expected ${VAR}"),
        ("${1A}", "expected ${VAR}"),
    ],
)
def test_what_is_not_set_or_not_written_correctly_is_told(text: str, told: str) -> None:
    with pytest.raises(BadVariable) as caught:
        replace_variables(text, ENV)
    assert told in str(caught.value)


@given(st.text())
def test_any_text_can_be_written(text: str) -> None:
    assert replace_variables(text.replace("$", "$$"), {}) == text


def load(tmp_path: Path, text: str) -> NetworkConfig:
    file = tmp_path / "network.yaml"
    file.write_text(text)
    return load_config(file)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return [f"{each.line}: {each.key}: {each.message}" for each in caught.value.problems]


FILE = """
network:
  name: "${NAME}"
  port: ${PORT}
  storage: ${STATE:-state}
mods:
  - path: pkg.mod
    env: {KEY: '${KEY}', N: "${PORT}"}
    limits: {queue: "${PORT}", event_timeout: "${PORT}", memory: "${PORT}MB", cpu: "${NAME}"}
    watch: "${FLAG}"
    config:
      text: "${PORT}"
      number: ${PORT}
      flag: ${FLAG}
      none: ${NONE:-}
      list: [x, "a-${NAME}"]
"""


def test_a_file_gets_values_from_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NAME": "1.10", "PORT": "8700", "KEY": "010", "FLAG": "true"}.items():
        monkeypatch.setenv(name, value)
    config = load(tmp_path, FILE)
    assert (config.name, config.port, config.storage) == ("1.10", 8700, tmp_path / "state")
    (mod,) = config.mods
    assert {name: value.resolve() for name, value in mod.env.items()} == {"KEY": "010", "N": "8700"}
    limits = mod.limits
    assert (limits.queue, limits.event_timeout, limits.memory, limits.cpu) == (8700, 8700.0, 8_700_000_000, 1.1)
    assert mod.watch is True
    assert mod.config == {"text": "8700", "number": 8700, "flag": True, "none": None, "list": ["x", "a-1.10"]}
    assert storage_of(tmp_path / "network.yaml") == tmp_path / "state"


def test_an_unset_variable_is_a_mistake_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NAME", "PORT", "KEY", "FLAG"):
        monkeypatch.delenv(name, raising=False)
    found = problems(tmp_path, FILE)
    assert [each.split(": ")[:2] for each in found[:2]] == [["3", "network.name"], ["4", "network.port"]]
    assert all("is not set" in each for each in found)


def test_a_message_does_not_show_the_value_of_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2")
    (found,) = problems(tmp_path, "network: {name: a, port: '${SECRET}'}")
    assert "hunter2" not in found
    assert "got '${SECRET}'" in found


def test_a_variable_between_braces_is_told_to_need_quotes(tmp_path: Path) -> None:
    (found,) = problems(tmp_path, "network: {name: a, port: ${PORT}}")
    assert "put ${VAR} in quotes" in found


def test_keys_and_plain_data_and_a_mod_yaml_have_no_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mod.yaml is its author's, who is not to read the environment of the network."""
    monkeypatch.setenv("NAME", "x")
    data = {"network": {"name": "${NAME}"}}
    assert parse_config(data, base_dir=tmp_path).name == "${NAME}"
    assert mod_file_keys(ModFile("mod.yaml", "description: ${NAME}")) == {"description": "${NAME}"}
    config = load(tmp_path, "network: {name: a}\nmods: [{path: pkg.mod, config: {'${NAME}': 1}}]\n")
    assert config.mods[0].config == {"${NAME}": 1}
