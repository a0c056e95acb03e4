"""Pages that `make docs` prints from the code are as it would print them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from modvisor.ipc.errors import Code

DOCS = Path(__file__).parents[2] / "docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["errors", "commands", "routes", "comparison"])
def test_a_printed_page_is_as_the_code_is(page: str) -> None:
    text = (DOCS / f"{page}.md").read_text("utf-8")
    assert text == script(f"print_{page}").printed(), "run: make docs"


def test_each_code_of_a_failure_is_explained_once() -> None:
    explained = [code for about in script("print_errors").ABOUT.values() for code in about]
    assert sorted(explained) == sorted(Code)


def test_each_command_that_events_give_is_explained() -> None:
    rooms = Path(__file__).parents[2] / "supervisor"
    code = "".join((rooms / f"{name}.py").read_text("utf-8") for name in ("commands", "agent_commands"))
    commands = set(re.findall(r'"(system\.[\w.]+)":', code))
    assert len(commands) > 20
    explained = set(re.findall(r"`(system\.[\w.]+)`", (DOCS / "events.md").read_text("utf-8")))
    assert commands - explained == set()
