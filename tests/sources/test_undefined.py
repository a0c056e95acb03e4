"""Names that an import would stumble over are found in the source; nothing else is."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import openagents.mods
import pytest

import modvisor.supervisor
from modvisor.supervisor.sources.undefined import undefined_names


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class Greeter(BaseMod):\n    pass", [(1, "BaseMod")]),
        ("import logging\n\n\ndefault = Greeter", [(4, "Greeter")]),
        ("@handler('a.b')\nasync def f(): pass", [(1, "handler")]),
        ("class A:\n    size = LIMIT * 2", [(2, "LIMIT")]),
        ("def f(a=b): pass", [(1, "b")]),
        ("names = [one for one in every]", [(1, "every")]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from x import Base\nclass A(Base): pass", [(4, "Base")]),
        ("with open(name) as file: pass", [(1, "name")]),
    ],
)  # fmt: skip
def test_a_name_that_nothing_defines(source: str, found: list[tuple[int, str]]) -> None:
    assert undefined_names(source) == found
    with pytest.raises(NameError):
        exec(source, {"__name__": "m"})


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="annotations are evaluated later")
def test_annotations_are_evaluated_unless_they_are_postponed() -> None:
    source = "def f(a: Optional[int]) -> Thing: pass\nn: Number = 1"
    assert [name for _line, name in undefined_names(source)] == ["Thing", "Optional", "Number"]
    assert undefined_names(f"from __future__ import annotations\n{source}") == []


@pytest.mark.parametrize(
    "source",
    [
        "def f(): return later\nclass A:\n    def g(self): return never",
        "try:\n    import json\nexcept ImportError:\n    json = nothing",
        "if False:\n    x = unknown",
        "from os.path import *\njoin('a')",
        "globals()['BaseMod'] = int\nclass A(BaseMod): pass",
        "def setup():\n    global made\n    made = 1\nsetup()\nx = made",
        "match 1:\n    case number: pass\nx = number",
        "class A:\n    a = 1\n    b = a\n    where = __qualname__, __module__\n__file__",
        "if (n := 3) > 1: pass\nx = n",
        "this is no Python",
        "\0",
        "import xml.dom\nx = xml",
        "x = lambda: nobody",
        "x = None or nobody if False else 1",
    ],
)
def test_what_may_be_defined_is_not_told(source: str) -> None:
    assert undefined_names(source) == []


def test_it_finds_nothing_in_code_that_can_be_imported() -> None:
    everyday = sorted(Path(ast.__file__).parent.glob("*.py"))[::8]
    files = [
        *everyday,
        *Path(modvisor.supervisor.__file__).parent.glob("*.py"),
        *Path(openagents.mods.__path__[0]).rglob("mod.py"),
    ]
    assert len(files) > 40
    found = {file.name: names for file in files if (names := undefined_names(file.read_bytes()))}
    assert found == {}
