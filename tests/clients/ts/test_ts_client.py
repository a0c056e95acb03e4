"""The TypeScript client: what can be said of its files without Node, and its own tests, in Node and in Chromium."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modvisor.ipc import __version__
from modvisor.ipc.errors import Code
from modvisor_client import errors

FOLDER = Path(__file__).parents[3] / "clients" / "ts"
NEEDED = {"node": "nodejs", "npm": "npm", "chromium": "chromium"}


def test_its_version_is_that_of_the_network():
    assert json.loads((FOLDER / "package.json").read_text("utf-8"))["version"] == __version__


def test_each_code_has_a_class_with_the_name_of_the_python_client():
    source = (FOLDER / "src" / "errors.ts").read_text("utf-8")
    found = re.findall(r'export class (\w+) extends \w+ \{\s+static override readonly code: string = "(\w+)";', source)
    ours = dict(found)
    assert set(Code) <= set(ours.values())
    assert ours == {
        kind.__name__: kind.code for kind in errors.BY_CODE.values() if kind is not errors.ModvisorClientError
    } | {"NetworkError": errors.NetworkError.code, "LoadError": errors.LoadError.code}


def test_the_lock_file_names_no_registry():
    lock = json.loads((FOLDER / "package-lock.json").read_text("utf-8"))
    assert all("resolved" not in package for package in lock["packages"].values())


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_its_own_tests_pass_in_node_and_in_chromium():
    missing = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    assert not missing, f"the TypeScript client is tested with these; run: apt-get install {' '.join(missing)}"
    if not _is_installed():
        _npm("ci", "--no-progress")
    _npm("run", "check")
    _npm("test")


def _is_installed() -> bool:
    """Whether `npm ci` ran since the lock file changed."""
    installed, lock = FOLDER / "node_modules" / ".package-lock.json", FOLDER / "package-lock.json"
    return installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime


def _npm(*command: str) -> None:
    environment = {**os.environ, "MODVISOR_PYTHON": sys.executable}
    done = subprocess.run(["npm", *command], cwd=FOLDER, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, f"npm {' '.join(command)}:\n{done.stdout}\n{done.stderr}"
