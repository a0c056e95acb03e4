"""`modvisor validate` and `modvisor doctor FILE` find what a start would stumble over."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Command, Served

WriteMod = Callable[..., str]

pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


@pytest.fixture
def problems(cli: Command, tmp_path: Path) -> Callable[[str], list[tuple[int, str, str]]]:
    """What validate finds in a file; doctor must find it too."""

    def find(text: str) -> list[tuple[int, str, str]]:
        (tmp_path / "network.yaml").write_text(text)
        found = cli.json("validate", "network.yaml", code=4)["problems"]
        examined = cli.json("doctor", "network.yaml", code=1)["checks"]
        failed = {check["name"] for check in examined if check["status"] == "fail"}
        assert {problem["key"].replace("network.storage", "state directory") for problem in found} <= failed
        return [(problem["line"], problem["key"], problem["message"]) for problem in found]

    return find


Problems = Callable[[str], list[Any]]


def test_a_config_that_does_not_follow_the_schema_of_its_mod(problems: Problems, write_mod: Callable[..., str]) -> None:
    folder = Path(write_mod("echo").removeprefix("./"))
    (Path("mods") / folder / "mod.yaml").write_text("config_schema: {properties: {most: {type: integer}}}\n")
    ((line, key, message),) = problems("network: {name: a}\nmods:\n  - path: ./echo\n    config: {most: many}\n")
    assert (line, key) == (4, "mods[0].config")
    assert "config.most: 'many' is not of type 'integer'" in message


def test_a_taken_port(problems: Problems, taken: int) -> None:
    ((line, key, message),) = problems(f"network:\n  name: a\n  port: {taken}\n")
    assert (line, key) == (3, "network.port")
    assert "the address is in use" in message


@pytest.mark.parametrize("host", ["192.0.2.7", "no.such.host.invalid"])
def test_a_foreign_address(problems: Problems, host: str) -> None:
    ((line, key, message),) = problems(f"network:\n  name: a\n  host: {host}\n  port: 0\n  insecure: true\n")
    assert (line, key) == (3, "network.host")
    assert "correct 'host' in the network file" in message


@pytest.mark.parametrize("storage", ["network.yaml/state", "/proc/state", "/dev/null"])
def test_a_storage_that_cannot_be_made(problems: Problems, storage: str) -> None:
    ((line, key, message),) = problems(f"network:\n  name: a\n  storage: {storage}\n")
    assert (line, key) == (3, "network.storage")
    assert "cannot be made" in message


def test_a_storage_that_others_can_change(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    ((line, key, message),) = problems("network:\n  name: a\n  storage: state\n")
    assert (line, key) == (3, "network.storage")
    assert "every user can write to the state directory" in message


def test_an_event_loop_that_cannot_be_had(problems: Problems, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    ((line, key, message),) = problems("network:\n  name: a\n  event_loop: uvloop\n")
    assert (line, key) == (3, "network.event_loop")
    assert "uvloop" in message


@pytest.mark.parametrize("module", ["no_such_module", "json.no_such_module", "json.decoder.inner", "no_such.module"])
def test_a_preload_that_does_not_exist(problems: Problems, module: str) -> None:
    ((line, key, message),) = problems(f"network:\n  name: a\n  preload: [json, xml.dom, sys, {module}]\n")
    assert (line, key) == (3, "network.preload[3]")
    assert module in message


def test_missing_and_circular_requirements(problems: Problems, write_mod: WriteMod) -> None:
    for name in ("a", "b", "c", "fine"):
        write_mod(name)
    found = problems(
        "network: {name: n}\nmods:\n- {path: ./a, requires: [b]}\n- {path: ./b, requires: [a]}\n"
        "- {path: ./c, requires: [nobody]}\n- {path: ./fine, requires: ['fine2>=2']}\n- {path: ./fine, id: fine2}\n"
    )
    told = {key: (line, message) for line, key, message in found}
    assert "there is no mod nobody" in told["mods[2].requires"][1]
    assert told["mods[2].requires"][0] == 5
    assert "fine requires fine2>=2" in told["mods[3].requires"][1]
    circle = told.get("mods[0].requires", told.get("mods[1].requires"))
    assert circle is not None
    assert "in a circle" in circle[1]


def test_what_is_met_is_no_mistake(cli: Command, write_mod: WriteMod, tmp_path: Path) -> None:
    write_mod("a")
    write_mod("offered")
    (tmp_path / "network.yaml").write_text(
        "network: {name: n, port: 0, preload: [json.decoder]}\nmods: [{path: ./a, requires: [offered]}]\n"
    )
    assert cli.json("validate", "network.yaml")["valid"]
    assert list(tmp_path.iterdir()) != []
    assert not (tmp_path / ".modvisor").exists(), "it starts nothing, and leaves nothing"


def test_the_port_of_a_network_that_runs_is_its_own(served: Served, cli: Command) -> None:
    assert cli.json("validate")["valid"]


WEAK = [
    "short",
    "a" * 40,
    "abababababababababab",
    "changeme-changeme-changeme",
    "1234567890123456",
    "MySuperSecretToken123",
]


@pytest.mark.parametrize("token", WEAK)
def test_a_guessable_token_on_an_open_address_is_refused(
    cli: Command, tmp_path: Path, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "network:\n  name: a\n  insecure: true\n  host: {}\n  port: 0\nadmin:\n  token: {}\n"
    monkeypatch.setenv("WEAK", token)
    for written in (f"'{token}'", "${WEAK}", "{from: 'env:WEAK'}"):
        (tmp_path / "network.yaml").write_text(text.format("0.0.0.0", written))
        (problem,) = cli.json("validate", "network.yaml", code=4)["problems"]
        assert (problem["line"], problem["key"]) == (7, "admin.token")
        assert token not in problem["message"]
        (tmp_path / "network.yaml").write_text(text.format("127.0.0.1", written))
        assert cli.json("validate", "network.yaml")["valid"]
        refused = cli("run", "network.yaml", "--host", "0.0.0.0")
        assert refused.exit_code == 4
        assert "the token can be guessed" in refused.output


@pytest.mark.parametrize(
    "token", ["8f14e45fceea167a5a36dedd4bea2543", "correct horse battery staple", "kJ3-_x9QpL0aZw7T"]
)
def test_a_token_that_cannot_be_guessed_is_taken(cli: Command, tmp_path: Path, token: str) -> None:
    text = f"network: {{name: a, host: 0.0.0.0, port: 0, insecure: true}}\nadmin: {{token: '{token}'}}\n"
    (tmp_path / "network.yaml").write_text(text)
    assert cli.json("validate", "network.yaml")["valid"]


def test_an_open_address_without_tls_is_refused_with_the_next_step(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text("network:\n  name: a\n  port: 0\n")
    refused = cli("run", "network.yaml", "--host", "0.0.0.0")
    assert refused.exit_code == 4
    assert "other machines can reach 0.0.0.0" in refused.output
    (tmp_path / "network.yaml").write_text("network: {name: a, port: 0, tls: {cert: c.pem, key: k.pem}}\n")
    (problem,) = cli.json("validate", "network.yaml", code=4)["problems"]
    assert problem["key"] == "network.tls"
    assert "c.pem cannot be read" in problem["message"]


def test_a_key_of_the_audit_that_is_missing_is_found(problems: Problems) -> None:
    ((line, key, message),) = problems("network: {name: a}\naudit:\n  key_file: audit.key\n")
    assert (line, key) == (3, "audit.key_file")
    assert "make one with" in message


def test_warnings_are_shown(cli: Command, tmp_path: Path, write_mod: WriteMod) -> None:
    write_mod("a")
    (tmp_path / "network.yaml").write_text("network: {name: a}\nmods: [{path: ./a, config: {country: no}}]\n")
    (warning,) = cli.json("validate", "network.yaml")["warnings"]
    assert (warning["line"], warning["key"]) == (2, "mods[0].config.country")
    assert "YAML reads no as false" in cli("validate", "network.yaml").output


def test_a_mod_whose_import_would_fail_is_named_with_file_and_line(problems: Problems, write_mod: WriteMod) -> None:
    write_mod("assistant", "import logging\n\nclass Assistant(BaseMod):\n    pass\n")
    write_mod("fine")
    ((line, key, message),) = problems("network: {name: n}\nmods:\n- ./fine\n- {path: ./assistant}\n")
    assert (line, key) == (4, "mods[1]")
    assert message.startswith("mod assistant cannot be imported: ")
    assert "mods/assistant/mod.py:3: NameError: name 'BaseMod' is not defined" in message
