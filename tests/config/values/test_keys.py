"""A key is a field: its default, its reader and its documentation stand together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from modvisor.supervisor.config.values.basic import duration, or_null, text, whole
from modvisor.supervisor.config.values.keys import REQUIRED, about, key, keys_of, section
from modvisor.supervisor.config.values.reader import Location
from modvisor.supervisor.config.yaml.source import Source


@dataclass(frozen=True, slots=True)
class Pool:
    size: int = key(4, whole(1), "how many")
    wait: float | None = key(None, or_null(duration()), "how long")
    label: str = key("x", text, "what it is called", name="name")
    host: str = key("here", text, "where", section="network")
    made_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Named:
    name: str = field(metadata=about(text, "what it is called"))
    color: str = field(default="red", metadata=about(text, "how it looks", shown="as you like"))


def test_the_keys_of_a_dataclass_are_its_documented_fields() -> None:
    found = keys_of(Pool)
    assert list(found) == ["size", "wait", "name"], (
        "by the name in the file; other sections and plain fields are left out"
    )
    assert list(keys_of(Pool, "network")) == ["host"]
    assert [(each.default, each.default_text, each.reader.accepts) for each in found.values()] == [
        (4, "`4`", "1 or more"),
        (None, "`null`", "duration, or null"),
        ("x", "`x`", "text"),
    ]


def test_a_default_may_be_required_or_told_in_words() -> None:
    name, color = keys_of(Named).values()
    assert (name.default is REQUIRED, name.default_text) == (True, "required")
    assert (color.default, color.default_text) == ("red", "as you like")


def test_a_section_is_read_as_its_dataclass() -> None:
    place = Location(Source(), Path("/base"), ("named",))
    assert section(Named)({"name": "n", "color": "blue"}, place) == Named("n", "blue")
    assert not place.source.problems
    assert section(Pool)({"size": 0, "colour": 1}, place).size == 4, "a default takes the place of a wrong value"
    assert [str(problem) for problem in place.source.problems] == [
        "named.size: expected a whole number from 1 to 1000000000, got 0",
        "named.colour: unknown key; known here: name, size, wait",
    ]
