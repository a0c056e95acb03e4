"""What YAML reads otherwise than its writer may have meant is refused, warned of, or kept as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modvisor.supervisor.config.network.network import NetworkConfig
from modvisor.supervisor.config.network.network_file import load_config
from modvisor.supervisor.config.yaml.source import BROKEN, ConfigError, Source, parse_yaml

CONFIG = "network: {{name: demo}}\nmods:\n  - path: pkg.mod\n    config: {{a: {}}}\n"


def load(tmp_path: Path, text: str) -> NetworkConfig:
    file = tmp_path / "network.yaml"
    file.write_text(text)
    return load_config(file)


def told(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    (problem,) = caught.value.problems
    return f"{problem.line}: {problem.key}: {problem.message}"


@pytest.mark.parametrize(
    ("key", "written", "fix"),
    [
        ("network: {name: a, port: %s}", "010000", "without the leading zero"),
        ("network: {name: a, event_timeout: %s}", "030", "without the leading zero"),
        ("network: {name: a, event_timeout: %s}", "1e1", "write 10"),
        ("network: {name: a, event_timeout: %s}", "1:30", "expected seconds or a duration"),
        ("network: {name: a}\nagents: {inbox_bytes: %s}", "1e6", "write 1000000"),
        ("network: {name: a}\nagents: {max_agents: %s}", "0o17", "expected a whole number"),
        ("network: {name: a}\nagents: {max_agents: %s}", "+010", "without the leading zero"),
        ("network: {name: a}\nagents: {max_agents: %s}", "0_10", "without the leading zero"),
        ("network: {name: a}\nagents: {max_agents: %s}", "'12'", "write 12"),
        ("network: {name: %s}", "on", "quotes"),
        ("network: {name: %s}", "1.10", "quotes"),
        ("network: {name: %s}", "2026-01-31", "quotes"),
        ("network: {name: %s}", "~", "expected text, got nothing"),
        ("network: {name: %s}", "*.py", "put a value that begins with this sign in quotes"),
        ("network: {name: %s}", "@home", "put a value that begins with this sign in quotes"),
        ("network: {name: %s}", "!x y", "the tag !x is not allowed"),
        ("network: {name: a}\nagents: {010: 1}", "", "010"),
        ("network: {name: a}\nagent_groups: {on: {}}", "", "YAML reads this key as bool"),
        ("network: {name: a}\nagent_groups: {1: {}}", "", "YAML reads this key as int"),
        ("network: {name: a}\nagent_groups: {~: {}}", "", "YAML reads this key as null"),
    ],
)
def test_a_key_refuses_what_yaml_reads_otherwise(tmp_path: Path, key: str, written: str, fix: str) -> None:
    assert fix in told(tmp_path, key % written if written else key)


@pytest.mark.parametrize("written", ["02142", "010", "00", "1:30", "12:30:45", "007.5", "-012"])
def test_plain_data_keeps_such_a_number_as_it_is_written(tmp_path: Path, written: str) -> None:
    config = load(tmp_path, CONFIG.format(written))
    assert config.mods[0].config == {"a": written}
    assert [warning.key for warning in config.warnings] == ([] if ":" in written else ["mods[0].config.a"])


@pytest.mark.parametrize(
    ("written", "value", "words"),
    [
        ("no", False, "write false, or 'no' in quotes"),
        ("On", True, "write true, or 'On' in quotes"),
        ("1.10", 1.1, "write '1.10' in quotes"),
    ],
)
def test_plain_data_is_warned_of(tmp_path: Path, written: str, value: object, words: str) -> None:
    config = load(tmp_path, CONFIG.format(written))
    assert config.mods[0].config == {"a": value}
    (warning,) = config.warnings
    assert (warning.line, warning.key) == (4, "mods[0].config.a")
    assert words in warning.message


@pytest.mark.parametrize("written", ["1e-3", "1.5E3", "1e10", ".5e1", "0o17"])
def test_plain_data_refuses_what_is_text_to_one_yaml_and_a_number_to_the_other(tmp_path: Path, written: str) -> None:
    assert f"'{written}' in quotes" in told(tmp_path, CONFIG.format(written))
    assert load(tmp_path, CONFIG.format(f"'{written}'")).mods[0].config == {"a": written}


@pytest.mark.parametrize("written", ["0", "0.5", "0x1F", "1_000", "true", "1.5", "2.0", "0.50", "-3", ".5", "1.0e+3"])
def test_plain_numbers_are_not_doubted(tmp_path: Path, written: str) -> None:
    assert load(tmp_path, CONFIG.format(written)).warnings == ()


def test_a_value_in_a_merge_and_in_a_quoted_text_is_not_doubted(tmp_path: Path) -> None:
    text = (
        CONFIG.format("'no'")
        + '  - path: pkg.other\n    config: &c {b: "1.10"}\n  - {path: pkg.third, config: {<<: *c}}\n'
    )
    assert load(tmp_path, text).warnings == ()


@settings(max_examples=40)
@given(st.from_regex(r"[-+]?[0-9][0-9_]{0,8}(\.[0-9_]{0,5})?(e[0-9]{1,2})?", fullmatch=True))
def test_a_variable_gets_any_number_as_it_is_written(written: str) -> None:
    source = Source()
    data = parse_yaml(f"a: {written}", source)
    assert data is not BROKEN
    assert (source.texts.get(("a",)) or data["a"]) == written
