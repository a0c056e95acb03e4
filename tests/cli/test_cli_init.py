"""`modvisor init`: what it makes is valid, has a name, and is never written over what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from .conftest import Command, Served


def test_what_it_makes_runs_and_answers(cli: Command, tmp_path: Path) -> None:
    text = cli.ok("init", "--name", "Café №1")
    assert "run it:    modvisor run" in text
    file = tmp_path / "network.yaml"
    assert file.read_text("utf-8").startswith("# yaml-language-server: $schema=network.schema.json\n")
    schema = json.loads((tmp_path / "network.schema.json").read_text("utf-8"))
    Draft7Validator(schema).validate(yaml.safe_load(file.read_text("utf-8")))
    assert cli.json("validate")["network"] == "Café №1"
    file.write_text(file.read_text("utf-8").replace("port: 8700", "port: 0"), "utf-8")
    served = Served(tmp_path)
    try:
        assert cli.ok("send", "hello.greeting.get", '{"name": "Ünal 日本\u3000語"}').startswith(
            "Hello, Ünal 日本\u3000語!"
        )
        assert cli.ok("status").startswith("network Café №1 runs (pid ")
    finally:
        served.stop()


def test_a_new_folder_gives_the_network_its_name(cli: Command, tmp_path: Path) -> None:
    text = cli.ok("init", "shops/north")
    assert "run it:    cd shops/north && modvisor run" in text
    assert cli.json("validate", "shops/north/network.yaml")["network"] == "north"


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ("network.yaml", "network.yaml is there already; run it with: modvisor run network.yaml"),
        ("mods/hello/mod.py", "mods/hello is there already"),
        ("mods", "cannot make mods/hello: Not a directory"),
        ("network.schema.json", "cannot write network.schema.json: File exists"),
    ],
)
def test_nothing_is_written_over(cli: Command, tmp_path: Path, there: str, says: str) -> None:
    file = tmp_path / there
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("mine")
    result = cli("init")
    assert (result.exit_code, says in result.stderr) == (1, True), result.stderr
    assert file.read_text() == "mine"
