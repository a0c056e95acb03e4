"""The JSON Schemas of network.yaml and mod.yaml: printed from the fields, and never stricter than the readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from modvisor.supervisor.config import schema_text
from modvisor.supervisor.config.mods.mod_file import MOD_FILE_READERS
from modvisor.supervisor.config.network.network_file import parse_config
from modvisor.supervisor.config.printed import reference
from modvisor.supervisor.config.values.reader import Location
from modvisor.supervisor.config.values.schema_parts import with_variables
from modvisor.supervisor.config.yaml.source import BROKEN, Source

from ..other_values import candidates

ROOT = Path(__file__).parents[3]
NETWORK, MOD = (json.loads(schema_text(kind)) for kind in ("network", "mod"))
KEYS = {f"{title}: {name}": each for title, table in reference.TABLES.items() for name, each in table.items()}
FREE = {"config", "metadata"}
"""Keys whose values have any shape."""


def is_valid(schema: dict[str, Any], value: Any) -> bool:
    return Draft7Validator(schema).is_valid(value)


@pytest.mark.parametrize("kind", ["network", "mod"])
def test_the_printed_schemas_are_those_of_the_fields(kind: str) -> None:
    text = (ROOT / "docs" / "schema" / f"{kind}.json").read_text("utf-8")
    assert text == schema_text(kind), "docs/schema is stale: run 'make docs'"
    Draft7Validator.check_schema(json.loads(text))


def test_every_key_of_the_manual_is_in_the_schema_with_its_meaning() -> None:
    assert NETWORK["properties"].keys() == reference.TABLES["the file"].keys()
    assert MOD["properties"].keys() == MOD_FILE_READERS.keys()
    entry = NETWORK["properties"]["mods"]["items"]["anyOf"][1]
    assert entry["properties"].keys() == reference.TABLES["mods[]"].keys()
    assert entry["properties"]["limits"]["properties"].keys() == reference.TABLES["mods[].limits"].keys()
    for each in KEYS.values():
        assert each.schema["description"], each.name
        assert "](" not in each.schema["description"], "links lead nowhere in an editor"


def test_what_a_reader_takes_its_schema_takes(tmp_path: Path) -> None:
    for name, each in KEYS.items():
        for value in candidates(each.reader):
            source = Source()
            found = each.reader(value, Location(source, tmp_path, ("X",)))
            if found is not BROKEN and not source.problems:
                assert is_valid(each.schema, value), f"{name} may be {value!r}"


def test_a_default_is_valid() -> None:
    for name, each in KEYS.items():
        if "default" in each.schema:
            assert is_valid(each.schema, each.schema["default"]), name


def test_every_schema_refuses_something() -> None:
    for name, each in KEYS.items():
        nonsense = [[{"a": ["b"]}]] if each.name in FREE else {"no such key": [[1]]}
        assert not is_valid(each.schema, nonsense) or name == "the file: agent_groups", name


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("network: {name: a, prot: 1}", "network"),
        ("network: {port: 1}", "network"),
        ("network: {name: a, port: http}", "network.port"),
        ("network: {name: a, event_timeout: 3 weeks}", "network.event_timeout"),
        ("network: {name: a}\njournal: {sync: always}", "journal.sync"),
        ("network: {name: a}\nmods: [{id: wiki}]", "mods[0]"),
        ("network: {name: a}\nmods: [{path: a.b, limits: {memory: 512}}]", "mods[0]"),
        ("mods: []", ""),
    ],
)
def test_a_mistake_is_underlined(text: str, key: str) -> None:
    found = next(Draft7Validator(NETWORK).iter_errors(yaml.safe_load(text)))
    assert found.json_path.removeprefix("$").removeprefix(".") == key


@pytest.mark.parametrize(
    "text",
    [
        "network: {name: a, port: '${PORT}', polling: off, watch: '${WATCH:-false}', event_timeout: 7d}",
        "network: {name: a, sandbox: strict}\naudit: off\nagents:\nmods: [a.b, {name: a.b, id: c, version: 1.10}]",
        "network: {name: a}\nmods: [{path: a.b, sandbox: off, env: {A: 1, B: {from: 'env:B'}}, config: {x: [1, {y: 2}]}}]",
        "network: {name: a}\nagent_groups: {g: {permissions: [mods], send: ['chat.*']}, empty: }\nadmin: {token: '${T}'}",
    ],
)
def test_what_a_network_may_say_is_valid(text: str) -> None:
    assert list(Draft7Validator(NETWORK).iter_errors(yaml.safe_load(text))) == []


def test_the_networks_of_the_examples_are_valid() -> None:
    for file in (ROOT / "examples").glob("**/*.yaml"):
        assert list(Draft7Validator(NETWORK).iter_errors(yaml.safe_load(file.read_text("utf-8")))) == [], file


def test_a_variable_may_stand_for_any_value_of_a_network_and_for_none_of_a_mod() -> None:
    each = reference.TABLES["network"]["port"].schema
    assert is_valid(with_variables(each), "${PORT}")
    assert not is_valid(each, "${PORT}")
    assert not is_valid(MOD, {"max_attempts": "${N}"})
    assert is_valid(MOD, {"max_attempts": 2, "version": "1.0", "limits": {"memory": "1GB"}, "config_schema": {}})
    assert parse_config({"network": {"name": "x"}}, base_dir=ROOT).port is None
