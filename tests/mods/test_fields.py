"""`modvisor.mods.workspace.fields`: what is taken, what is refused, and what the refusal says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.mods import Event, Refused
from modvisor.mods.workspace.fields import Given, agent_id, channel_name

ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)
READERS = {
    "text": lambda g: g.text("x", most=10),
    "line": lambda g: g.line("x", most=10),
    "integer": lambda g: g.integer("x", least=0, most=10),
    "number": lambda g: g.number("x", least=0, most=10),
    "flag": lambda g: g.flag("x"),
    "choice": lambda g: g.choice("x", ("a", "b")),
    "texts": lambda g: g.texts("x", items=3, most=10),
    "numbers": lambda g: g.numbers("x", items=3, least=0, most=1),
    "agent": lambda g: g.agent("x"),
    "agents": lambda g: g.agents("x"),
    "channel": lambda g: g.channel("x"),
    "destination": lambda g: g.destination("x"),
}


@given(st.sampled_from(sorted(READERS)), ANYTHING)
def test_a_reader_takes_or_refuses_whatever_comes(reader: str, value: Any) -> None:
    refusal = None
    try:
        READERS[reader](Given({"x": value}))
    except Refused as error:
        refusal = error
    if refusal is not None:
        assert refusal.details == {"field": "x"}
        assert str(refusal).startswith("x: ")
        assert len(str(refusal)) < 300


def test_what_is_taken() -> None:
    fields = Given(
        {"line": "  a  ", "tags": ["b", "a", "b"], "n": 3, "who": "agent:bob", "where": "#dev", "none": None}
    )
    assert fields.line("line", most=10) == "a"
    assert fields.texts("tags", items=5, most=5) == ["b", "a"]
    assert fields.number("n", least=0, most=5) == 3.0
    assert fields.agent("who") == "bob"
    assert fields.channel("where") == "dev"
    assert fields.text("none", most=5, default="unset") == "unset"
    fields.done()


@pytest.mark.parametrize(
    ("data", "read", "message"),
    [
        ({"title": 5}, lambda g: g.text("title", most=200), "title: expected text of 1 to 200 characters, got int 5"),
        ({}, lambda g: g.text("title", most=200), "title: missing; expected text of 1 to 200 characters"),
        ({"titel": "x"}, lambda g: g.line("title", most=9),
         "title: missing; expected one line of 1 to 9 characters (there is 'titel'; did you mean 'title'?)"),
        ({"n": True}, lambda g: g.integer("n", least=1, most=2), "n: expected a whole number from 1 to 2, got bool True"),
        ({"s": "x"}, lambda g: g.choice("s", ("a", "b")), "s: expected one of a, b, got str 'x'"),
        ({"t": "a\nb"}, lambda g: g.line("t", most=9), r"t: expected one line of 1 to 9 characters, got str 'a\nb'"),
        ({"t": list(range(30))}, lambda g: g.texts("t", items=3, most=1),
         "t: expected a list of at most 3 lines of 1 to 1 characters, got list of 30 items"),
    ],
)  # fmt: skip
def test_what_a_refusal_says(data: dict[str, Any], read: Any, message: str) -> None:
    with pytest.raises(Refused) as caught:
        read(Given(data))
    assert str(caught.value) == message
    assert caught.value.code == "bad_input"


def test_a_long_text_is_not_repeated_in_the_refusal() -> None:
    with pytest.raises(Refused, match="got text of 1000000 characters") as caught:
        Given({"t": "x" * 1_000_000}).text("t", most=10)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("bad", ["", " ", "a\0b", "a\ud800", "\u2028", "a\x85b"])
def test_what_is_no_line(bad: str) -> None:
    with pytest.raises(Refused):
        Given({"t": bad}).line("t", most=100)


def test_an_unknown_field_is_refused_with_the_nearest_known_one() -> None:
    fields = Given({"title": "x", "sumary": "y"})
    fields.line("title", most=10)
    fields.line("summary", most=10, default="")
    with pytest.raises(Refused, match="'sumary': unknown field; did you mean 'summary'"):
        fields.done()
    with pytest.raises(Refused, match="5: unknown field; known fields: none"):
        Given({5: 1}).done()  # type: ignore[dict-item]


@given(st.text(alphabet="ab.@-_:# /A1é", max_size=140) | st.text())
def test_ids_that_are_taken_make_addresses(text: str) -> None:
    agent, channel = agent_id(text), channel_name(text)
    if agent is not None:
        assert Event("a.b", source_id=agent).source_agent == agent
        Event("a.b", destination_id=f"agent:{agent}")
    if channel is not None:
        Event("a.b", destination_id=f"channel:{channel}")
