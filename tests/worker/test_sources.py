"""Code that was compiled before is used for the same source only."""

from __future__ import annotations

import marshal
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.worker.sources import Compiled, Sources, digest, packed

SOURCE = b"answer = 42\n"
CODE = compile(SOURCE, "/mod.py", "exec")


def test_the_same_source_is_not_compiled_again() -> None:
    found = Compiled({"/mod.py": [digest(SOURCE), packed(CODE)]}).find("/mod.py", SOURCE)
    assert found is not None
    names: dict[str, Any] = {}
    exec(found, names)
    assert (names["answer"], found.co_filename) == (42, "/mod.py")


@given(st.binary())
def test_any_other_source_is(source: bytes) -> None:
    known = Compiled({"/mod.py": [digest(SOURCE), packed(CODE)]})
    assert (known.find("/mod.py", source) is not None) == (source == SOURCE)
    assert known.find("/other.py", SOURCE) is None


@pytest.mark.parametrize(
    "code",
    [
        b"",
        marshal.dumps(CODE),  # without the format of its Python
        b"\0\0\0\0" + marshal.dumps(CODE),  # of another Python
        packed(CODE)[:-10],  # cut off
        MAGIC_NUMBER,
        MAGIC_NUMBER + marshal.dumps("no code"),
        "text",
        None,
    ],
)
def test_what_is_no_code_of_this_python_is_compiled_anew(code: Any) -> None:
    assert Compiled({"/mod.py": [digest(SOURCE), code]}).find("/mod.py", SOURCE) is None


@pytest.mark.parametrize("known", [{}, None, {"/mod.py": None}, {"/mod.py": []}, {"/mod.py": "text"}])
def test_what_is_not_known_is_compiled(known: Any) -> None:
    assert Compiled(known).find("/mod.py", SOURCE) is None


def test_what_was_compiled_is_told_once_and_only_if_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "mod.py"
    path.write_bytes(SOURCE)
    for kept, told in (({}, True), (None, False), ({str(path): [digest(SOURCE), packed(CODE)]}, False)):
        sources = Sources("mod", None, None, kept)
        sources.remember("mod", str(path), SOURCE)
        sources.code_of("mod", str(path), SOURCE, lambda source, name: compile(source, name, "exec"))
        assert ("code" in sources.snapshot()["mod"]) is told
        assert "code" not in sources.snapshot()["mod"]
