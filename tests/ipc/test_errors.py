from __future__ import annotations

from typing import Any

import pytest

from modvisor.ipc import errors
from modvisor.ipc.errors import Code, ModvisorError, shown


def test_an_error_has_the_code_of_its_class_unless_told_otherwise() -> None:
    assert errors.Refused("no").code == Code.BAD_INPUT
    error = errors.Refused("no", code=Code.CONFLICT, page="Home")
    assert (str(error), error.code, error.details) == ("no", "conflict", {"page": "Home"})
    assert errors.Refused("no").code == Code.BAD_INPUT, "the class keeps its own"


def test_every_error_has_a_code_of_the_list() -> None:
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, ModvisorError)]
    assert len(found) > 10
    assert all(cls.code in set(Code) for cls in found)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("wiki", "'wiki'"),
        (b"wiki", "b'wiki'"),
        ({"a": 1}, "dict of 1"),
        ([1, 2, 3], "list of 3"),
        (None, "None"),
    ],
)
def test_a_value_in_a_message(value: Any, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize("value", ["x" * 10_000_000, b"\0" * 10_000_000, 10**1000])
def test_a_value_in_a_message_is_short(value: Any) -> None:
    assert len(shown(value, 20)) <= 20
    assert shown(value, 20).endswith("...")
