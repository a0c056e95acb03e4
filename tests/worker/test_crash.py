"""How an exception of a mod is described."""

from __future__ import annotations

from typing import Any

import pytest

from modvisor.worker.crash import MAX_TRACEBACK, describe

SOURCE = b"""
def outer():
    inner()

def inner():
    raise KeyError("gone")

def deep(n):
    return deep(n - 1) + 1
"""
FILE = "/srv/mods/wiki/mod.py"
OWN = {FILE: SOURCE}


@pytest.fixture
def mod() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(SOURCE, FILE, "exec"), names)
    return names


def raised(call: Any, *args: Any) -> Exception:
    try:
        call(*args)
    except Exception as error:  # noqa: BLE001 - any may come
        return error
    raise AssertionError("it did not raise")


def test_the_place_is_the_last_frame_in_the_mods_own_files(mod: dict[str, Any]) -> None:
    told = describe(raised(mod["outer"]), OWN)
    assert (told["type"], told["message"], told["where"]) == ("KeyError", "KeyError: 'gone'", f"{FILE}:6")
    assert 'raise KeyError("gone")' in told["traceback"], "the source as it was compiled; there is no such file"


def test_a_failure_of_others_has_no_place() -> None:
    told = describe(raised(int, "x"), OWN)
    assert (told["type"], told["where"]) == ("ValueError", "")


def test_a_syntax_error_stands_where_it_is() -> None:
    error = raised(compile, "a = (", "/srv/mods/wiki/more.py", "exec")
    assert describe(error, OWN)["where"] == "/srv/mods/wiki/more.py:1"


def test_a_long_traceback_loses_its_middle() -> None:
    error = ValueError("x" * 100_000)
    text = describe(error, OWN)["traceback"]
    assert len(text) < MAX_TRACEBACK + 100
    assert "characters left out" in text


def test_text_that_no_wire_carries_is_escaped() -> None:
    told = describe(ValueError("caf\udce9"), OWN)
    assert told["message"] == "ValueError: caf\\udce9"


def test_an_exception_without_words_is_named_by_its_type() -> None:
    assert describe(ValueError(), OWN)["message"] == "ValueError"
