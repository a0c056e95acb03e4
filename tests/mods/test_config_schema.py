"""A mod's `config_schema`: what it refuses, when, and how it says so."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc import config_schema
from modvisor.ipc.config_schema import MAX_PROBLEMS, WrongConfig, check_config
from modvisor.supervisor import AgentNetwork
from modvisor.worker.testing import ModHarness
from tests.conftest import ECHO

pytestmark = pytest.mark.anyio

SCHEMA: dict[str, Any] = {
    "properties": {"name": {"type": "string"}, "most": {"type": "integer", "minimum": 1}},
    "required": ["name"],
    "additionalProperties": False,
}
WITH_SCHEMA = ECHO.replace('version = "1.0"', f'version = "1.0"\n        config_schema = {SCHEMA!r}').replace(
    "@mod_event_handler", "def initialize(self):\n            print('initialized')\n\n        @mod_event_handler", 1
)
IN_YAML = """
config_schema:
  properties: {most: {type: integer}}
"""


def wrong(config: dict[str, Any], schema: Any = SCHEMA) -> str:
    with pytest.raises(WrongConfig) as caught:
        check_config(config, schema, "Mod")
    assert caught.value.code == "bad_config"
    return str(caught.value)


def test_every_mistake_is_named_by_its_key() -> None:
    text = wrong({"most": 0, "extra": 1})
    assert "config.most: 0 is less than the minimum of 1" in text
    assert "config: 'name' is a required property" in text
    assert "'extra' was unexpected" in text
    check_config({"name": "x", "most": 2}, SCHEMA, "Mod")


def test_a_long_list_is_cut() -> None:
    schema = {"items": {"type": "string"}, "properties": {"all": {"items": {"type": "string"}}}}
    text = wrong({"all": list(range(1000))}, schema)
    assert text.count("is not of type") == MAX_PROBLEMS
    assert text.endswith("…")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "strin"}, "is no JSON Schema"),
        ([], "expected a mapping, got list"),
        ({"$ref": "http://127.0.0.1:1/x.json"}, "refers to"),
        ({"$ref": "#/nowhere"}, "refers to"),
    ],
)
def test_a_schema_that_is_none_is_refused_and_nothing_is_fetched(schema: Any, said: str) -> None:
    assert said in wrong({}, schema)


def test_without_the_library_the_error_says_what_to_install() -> None:
    script = """
import sys
sys.modules["jsonschema"] = None
from modvisor.ipc.config_schema import check_config
try:
    check_config({}, {}, "Mod")
except Exception as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert "which needs jsonschema; install it for the mod's Python: pip install 'modvisor[schema]'" in done.stdout


def test_the_library_is_imported_for_a_schema_only() -> None:
    script = "import sys; import modvisor.worker.serve; print('jsonschema' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "False"
    assert not hasattr(config_schema, "jsonschema")


async def test_a_class_refuses_a_config_before_it_is_initialized(
    make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str]
) -> None:
    network = make_network()
    await network.initialize()
    path = write_mod("echo", WITH_SCHEMA)
    refused = await network.load_mod(path, {"most": "many"})
    assert (refused.success, refused.error) == (False, "bad_config")
    assert "config_schema of Echo: config: 'name' is a required property" in refused.message
    assert "config.most: 'many' is not of type 'integer'" in refused.message
    assert not any("initialized" in line for line in network.mod_log("echo"))
    assert (await network.load_mod(path, {"name": "x"})).success
    reloaded = await network.reload_mod("echo", config={"name": 7})
    assert (reloaded.success, reloaded.error) == (False, "bad_config")
    assert network.get_loaded_mods()["echo"]["state"] == "ready"


async def test_a_mod_yaml_refuses_a_config_too(
    make_network: Callable[..., AgentNetwork], write_mod: Callable[..., str], tmp_path: Path
) -> None:
    network = make_network()
    await network.initialize()
    path = write_mod("echo")
    (tmp_path / "mods" / "echo" / "mod.yaml").write_text(IN_YAML)
    refused = await network.load_mod(path, {"most": "many"})
    assert (refused.success, refused.error) == (False, "bad_config")
    assert "config_schema of mod.yaml: config.most: 'many'" in refused.message
    assert (await network.load_mod(path, {"most": 3})).success


async def test_the_harness_of_tests_checks_the_config_as_well(tmp_path: Path) -> None:
    scope: dict[str, Any] = {"__name__": "tests.made_here"}
    exec(textwrap.dedent(WITH_SCHEMA), scope)
    with pytest.raises(WrongConfig, match="'name' is a required property"):
        async with ModHarness(scope["Echo"], storage_path=tmp_path):
            pass
