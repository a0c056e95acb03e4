"""Which events are traced, and as part of what."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config.sections.tracing import TracingConfig
from modvisor.supervisor.tracing.parents import ROOT, Choice, Parent, parent_of

TRACE, SPAN, OTHER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331"


def said(trace: str = TRACE, span: str = SPAN, flags: str = "01") -> dict[str, Any]:
    return {"traceparent": f"00-{trace}-{span}-{flags}"}


def choice(chance: float = 0.99, **keys: Any) -> Choice:
    return Choice(TracingConfig(otlp="http://x/v1/traces", **keys), lambda: chance, lambda: 7.0)


def test_the_form_of_w3c_is_read_and_written() -> None:
    assert parent_of(said()) == Parent(TRACE, SPAN, True)
    assert parent_of(said(flags="00")) == Parent(TRACE, SPAN, False)
    assert parent_of({"traceparent": f"01-{TRACE}-{SPAN}-03-more"}) == Parent(TRACE, SPAN, True)  # of a later version
    assert str(Parent(TRACE, SPAN, True)) == said()["traceparent"]


@pytest.mark.parametrize(
    "text",
    [
        None, 7, "", "x", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE}-{SPAN}",
        f"01-{TRACE}-{SPAN}-01-" + "a" * 500,
        [TRACE],
    ],
)  # fmt: skip
def test_what_has_another_form_says_nothing(text: Any) -> None:
    assert parent_of({"traceparent": text}) is None


@given(st.text(max_size=80))
def test_no_text_of_a_stranger_fails(text: str) -> None:
    found = parent_of({"traceparent": text})
    assert found is None or len(found.trace_id) == 32


def test_an_event_goes_on_in_the_trace_of_its_sender() -> None:
    assert choice(sample=0).parent(said(), None) == Parent(TRACE, SPAN, True)


def test_an_event_that_its_sender_does_not_trace_is_not_traced() -> None:
    assert choice(chance=0.0, sample=1).parent(said(flags="00"), None) is None


def test_senders_are_not_heeded_unless_they_are_followed() -> None:
    assert choice(sample=0.5, follow=False).parent(said(), None) is None
    assert choice(chance=0.1, sample=0.5, follow=False).parent(said(), None) is ROOT


def test_others_are_traced_by_chance() -> None:
    assert choice(chance=0.09).parent({}, None) is ROOT
    assert choice(chance=0.1).parent({}, None) is None


def test_what_a_mod_sends_for_a_traced_event_is_part_of_it() -> None:
    cause = Parent(TRACE, OTHER, True)
    assert choice(sample=0).parent({}, cause) == cause
    assert choice(sample=0).parent(said(trace="a" * 32), cause) == cause
    assert choice(sample=0).parent(said(), cause) == Parent(TRACE, SPAN, True)  # a span of the mod itself


def test_only_so_many_are_traced_within_a_second() -> None:
    now = [1.0]
    chosen = Choice(TracingConfig(otlp="http://x/v1/traces", sample=1, per_second=3), lambda: 0.0, lambda: now[0])
    assert [chosen.parent(said(), None) is not None for _ in range(5)] == [True, True, True, False, False]
    now[0] = 2.0
    assert chosen.parent({}, None) is ROOT
