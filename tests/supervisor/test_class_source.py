"""What a mod's class says of itself is read from its source, not run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.sources.class_source import BadSource, class_attributes

CLASSES = [
    ("class Wiki(BaseMod):\n    version = '1.0'\n    requires = ['a']", None, {"version": "1.0", "requires": ["a"]}),
    ("class Wiki(mods.BaseMod):\n    version: ClassVar[str] = '1.0'", None, {"version": "1.0"}),
    ("from modvisor.mods import BaseMod as B\nclass Wiki(B):\n    version = '1.0'", None, {"version": "1.0"}),
    ("class Base(BaseMod):\n    version, x = '1', 2\n    a = 1\nclass Wiki(Base):\n    b = 2", None, {"a": 1, "b": 2}),
    ("class Base(BaseMod):\n    version = '1'\nclass Wiki(Base):\n    version = compute()", None, {}),
    ("class Base(BaseMod, Generic[T]):\n    a = 1\nclass Wiki(Base[int]): pass", None, {"a": 1}),
    ("class One(BaseMod):\n    a = 1\nclass Two(BaseMod):\n    a = 2", "Two", {"a": 2}),
    ("class One(BaseMod):\n    a = 1", "Other", {}),
    ("class Wiki(Wiki):\n    a = 1\nclass A(B): pass\nclass B(A): pass", None, {}),
    ("class Wiki:\n    version = '1.0'", None, {}),
]


@pytest.mark.parametrize(("source", "name", "found"), CLASSES)
def test_what_a_class_says_of_itself_is_read_from_its_source(source: str, name: str | None, found: Any) -> None:
    told = class_attributes(source, name)
    if "version" not in found:
        assert "version" not in told or "compute" not in source
    assert {key: told[key] for key in found} == found
    assert (told == {}) == (found == {}) or "compute" in source


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("class One(BaseMod):\n    a = 1\nclass Two(BaseMod):\n    a = 2", ": 2 mod classes (One, Two)"),
        ("x = 1\nthis is no python (", ":2: SyntaxError"),
        ("\0", "null byte"),
        ("(" * 100_000, ""),
    ],
)
def test_what_cannot_be_a_mod_is_told(source: str, said: str) -> None:
    with pytest.raises(BadSource) as caught:
        class_attributes(source)
    assert said in str(caught.value)


@given(st.text() | st.binary())
def test_whatever_a_file_holds_it_is_read_or_told(source: str | bytes) -> None:
    try:
        found = class_attributes(source)
    except BadSource:
        return
    assert isinstance(found, dict)
