"""``modvisor doctor``: on this host, with a network file and without, and on a page of 80 columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.cli.render.doctor import WIDTH, checkup_parts

from .conftest import Command
from .test_cli_render import Terminal, shown

WIKI = """
network: {name: demo}
mods:
  - path: modvisor.mods.workspace.wiki
    limits: {memory: 200MB}
"""


def names(found: dict[str, Any]) -> set[str]:
    return {check["name"] for check in found["checks"]}


def test_a_host_is_examined_without_any_file(cli: Command, tmp_path: Path) -> None:
    found = cli.json("doctor")
    assert (found["success"], found["file"], found["problems"]) == (True, None, [])
    assert found["status"] in ("ok", "warn")
    assert {"python", "state directory", "limit memory"} <= names(found)
    text = cli.ok("doctor")
    assert "No network file was looked at; name one with: modvisor doctor FILE" in text
    assert "A network can run here" in text
    assert list(tmp_path.iterdir()) == [], "it changes nothing"


@pytest.mark.parametrize("args", [("net.yaml",), ("--file", "net.yaml"), ()])
def test_a_file_is_looked_at(
    cli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...]
) -> None:
    (tmp_path / "net.yaml").write_text(WIKI)
    if not args:
        monkeypatch.setenv("MODVISOR_FILE", "net.yaml")
    found = cli.json("doctor", *args)
    assert found["file"] == "net.yaml"
    assert "mod wiki" in names(found)
    assert str(tmp_path / ".modvisor") in next(
        each["text"] for each in found["checks"] if each["name"] == "state directory"
    )
    assert "wiki" in cli.ok("doctor", *args).partition("net.yaml")[2]


def test_the_file_in_the_folder_is_the_default(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(WIKI)
    assert cli.json("doctor")["file"] == "network.yaml"


def test_mistakes_of_the_file_do_not_keep_the_host_from_being_examined(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text("network: {name: demo, prot: 1}\nmods: 7\n")
    found = cli.json("doctor", code=4)
    assert (found["success"], found["status"]) == (False, "fail")
    assert [problem["key"] for problem in found["problems"]] == ["network.prot", "mods"]
    assert "python" in names(found)
    result = cli("doctor")
    assert result.exit_code == 4
    assert "Python 3" in result.stdout
    assert "network.prot: unknown key; did you mean 'port'?" in result.stdout
    assert result.stdout.endswith("network.yaml has 2 mistakes; mend them and ask again.\n")


def test_a_file_that_is_named_and_not_there_is_a_mistake(cli: Command) -> None:
    found = cli.json("doctor", "missing.yaml", code=4)
    assert found["problems"][0]["message"] == "cannot read the file: No such file or directory"
    assert "python" in names(found)


def test_what_fails_is_the_exit_code(cli: Command, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    (tmp_path / "network.yaml").write_text("network: {name: demo, storage: taken/state}\n")
    found = cli.json("doctor", code=1)
    assert (found["success"], found["status"]) == (False, "fail")
    result = cli("doctor")
    assert result.exit_code == 1
    assert "What is marked fail keeps a network from running" in result.stdout


def test_the_page_fits_on_80_columns_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    checks = [
        {"name": "python", "status": "ok", "text": "Python 3.11", "remedy": None},
        {"name": "cgroups", "status": "warn", "text": "not used " * 20, "remedy": "run it as a service " * 9},
        {"name": "limit memory", "status": "ok", "text": "watchdog", "remedy": None},
        {"name": f"mod {'long' * 20}", "status": "fail", "text": "\x1b[31mred", "remedy": None},
        {"name": "memory of all mods", "status": "ok", "text": "fits", "remedy": None},
    ]
    found = {"file": "network.yaml", "status": "fail", "checks": checks, "problems": []}
    text = "".join(shown(*checkup_parts(found), stream=Terminal(), width=WIDTH))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80, [line for line in lines if len(line) > 80]
    assert "→ run it as a service" in text
    assert "\N{REPLACEMENT CHARACTER}[31mred" in text
    assert [line for line in lines if line and not line.startswith(" ")] == [
        "This host",
        "Limits of mods, and what enforces each on this host",
        "network.yaml",
        "3 ok, 1 warn, 1 fail",
        "What is marked fail keeps a network from running well: → says what to do.",
    ]
