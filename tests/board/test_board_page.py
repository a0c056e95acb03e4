"""The dashboard's page: what can be said of its files without a browser, and its own tests, in Chromium."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from modvisor.supervisor.http import board
from tests.board.lab import running

STATIC = Path(board.__file__).parent / "static"
HERE = Path(__file__).parent
CLIENT = HERE.parents[1] / "clients" / "ts"
FILES = {file.name: file for file in sorted(STATIC.iterdir())}
NEEDED = {"node": "nodejs", "npm": "npm", "chromium": "chromium"}

MOST_BYTES = 300_000
MOST_LINES = 450


def test_all_of_it_weighs_less_than_300_kb():
    assert sum(file.stat().st_size for file in FILES.values()) < MOST_BYTES


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_short_and_names_no_other_place(name: str):
    text = FILES[name].read_text("utf-8")
    assert text.count("\n") <= MOST_LINES
    places = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", text)) - {"http://www.w3.org/2000/svg"}
    assert not places, "the page works offline"


def test_every_file_that_a_file_names_is_there_and_every_file_is_named():
    texts = {name: file.read_text("utf-8") for name, file in FILES.items()}
    named = {found for text in texts.values() for found in re.findall(r"[\"'](?:/board|\.)/(\w+\.\w+)[\"']", text)}
    assert named <= set(FILES)
    assert set(FILES) - named == {"index.html"}, "which nobody needs"


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".js", ".html"))])
def test_nothing_is_read_as_html_and_no_style_or_script_is_inline(name: str):
    text = FILES[name].read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)
    assert not re.search(r"<script>|<style|style=|setAttribute\(\"style", text), "the page's policy would refuse it"


@pytest.fixture(scope="module")
def installed() -> None:
    missing = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    assert not missing, f"the page is tested with these; run: apt-get install {' '.join(missing)}"
    # The browser is driven by what the TypeScript client is tested with.
    if not (CLIENT / "node_modules" / "playwright-core").exists():
        _run("npm", "ci", "--no-progress", at=CLIENT)


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_its_types_hold():
    _run(str(CLIENT / "node_modules" / ".bin" / "tsc"), "-p", "tsconfig.json", at=HERE)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("installed")
def test_its_own_tests_pass_in_chromium(tmp_path: Path):
    with running(tmp_path) as lab:
        _run("node", "--test", "board.test.mjs", at=HERE, LAB_URL=lab.url, LAB_SOCKET=str(lab.socket))


def _run(*command: str, at: Path, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=at, env={**os.environ, **environment}, capture_output=True, text=True, timeout=230
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}\n{done.stderr}"
