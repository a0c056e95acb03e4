"""No block of any page is passed over: it is walked, read or run, or it stands in the table of what is not, with its test."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from modvisor import BaseMod
from modvisor.supervisor.config.mods.mod_file import MOD_FILE_READERS, ModFile, mod_file_keys
from modvisor.supervisor.config.network.network_file import load_config
from tests import warm

from .not_run import NOT_RUN, NotRun, begins_of, row_of
from .pages import ROOT, Block, blocks_of, names
from .scenes import SCENES

BLOCKS = [block for page in names() for block in blocks_of(page)]
WALKED = ("console", "sh")
SHOWN = ("text", "mermaid")
"""What a program prints or a drawing says: nobody types it."""


def those(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages and row_of(block.page, block.begins) is None]


def name(block: Block) -> str:
    return f"{block.page}:{block.line}"


def test_each_block_is_walked_read_run_or_in_the_table() -> None:
    read = {name(block) for block in those("yaml", "json", "toml", "python", *SHOWN)}
    walked = {name(block) for block in BLOCKS if block.language in WALKED and block.steps}
    in_table = {name(block) for block in BLOCKS if all(row_of(block.page, each) for each in begins_of(block))}
    assert [name(block) for block in BLOCKS if name(block) not in read | walked | in_table] == []


@pytest.mark.parametrize("row", NOT_RUN, ids=lambda row: f"{row.page}:{row.begins[:20]}")
def test_the_table_names_what_is_there_and_tests_that_are_there(row: NotRun) -> None:
    there = [begins for block in blocks_of(row.page) for begins in begins_of(block)]
    assert any(row_of(row.page, begins) is row for begins in there), f"no block of {row.page} begins so any more"
    file, _, test = row.test.partition("::")
    sign = rf"^{test}:" if file == "Makefile" else rf"^(?:async )?def {test}\("
    assert re.search(sign, (ROOT / file).read_text("utf-8"), re.MULTILINE), row.test


def test_what_is_said_to_be_taken_from_a_page_is_read_by_a_test_that_names_it() -> None:
    for row in NOT_RUN:
        if row.why.startswith("that test takes it"):
            page = row.page.removesuffix(".md")
            assert page in (ROOT / row.test.partition("::")[0]).read_text("utf-8"), row


def test_what_pages_take_for_granted_is_of_pages_that_are_there() -> None:
    assert SCENES.keys() <= set(names())


@pytest.mark.parametrize("block", those("yaml"), ids=name)
def test_yaml_is_read_as_the_network_reads_it(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a network file is put into one, a part of a mod.yaml is one. Files and folders that it names are there."""
    monkeypatch.setenv("HELLO_API_KEY", "x")
    text = block.text.replace("/etc/modvisor", str(tmp_path / "etc"))
    for file in re.findall(r"[\w./-]+\.(?:pem|key|creds|secret)\b|secrets/[\w.-]+", text):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("ea1c5a9145c8606059e0a4c4")
    for mod in re.findall(r"(?<![\w.])\./([\w-]+)", text):
        (tmp_path / "mods" / mod).mkdir(parents=True, exist_ok=True)
    (tmp_path / "lib").mkdir()
    (tmp_path / "hello.js").touch(0o755)
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    keys = yaml.safe_load(text).keys()
    if keys <= MOD_FILE_READERS.keys():
        assert mod_file_keys(ModFile(str(tmp_path / "mod.yaml"), text)).keys() == keys
    else:
        (tmp_path / "network.yaml").write_text(text if "network" in keys else f"network: {{name: demo}}\n{text}")
        load_config(tmp_path / "network.yaml")


@pytest.mark.parametrize("block", those("json"), ids=name)
def test_json_is_json(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("block", those("toml"), ids=name)
def test_toml_is_toml(block: Block) -> None:
    assert tomllib.loads(block.text)


PARTS = [block for block in those("python") if not block.file]


@pytest.mark.parametrize("block", [block for block in PARTS if block.page != "openagents.md"], ids=name)
def test_a_part_of_a_program_runs(block: Block) -> None:
    exec(compile(block.text, f"docs/{block.page}", "exec"), {"BaseMod": BaseMod})


@pytest.mark.slow
@pytest.mark.parametrize("block", [block for block in PARTS if block.page == "openagents.md"], ids=name)
def test_the_imports_of_both_networks_work(block: Block) -> None:
    """In a process of its own: the import takes a second, and stays."""
    done = warm.run([sys.executable, "-c", block.text], timeout=30)
    assert (done.stderr, done.returncode) == ("", 0)
