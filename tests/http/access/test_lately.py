"""What is recorded once in a while."""

from __future__ import annotations

from modvisor.supervisor.http.access.lately import EVERY, MOST, Lately


def test_it_is_due_again_after_an_hour() -> None:
    now = [0.0]
    lately = Lately(lambda: now[0])
    assert [lately.is_first("alice"), lately.is_first("alice"), lately.is_first("bob")] == [True, False, True]
    now[0] = EVERY / 2
    lately.note("bob")
    now[0] = EVERY
    assert [lately.is_due("alice"), lately.is_due("bob")] == [True, False]


def test_it_forgets_what_was_noted_longest_ago() -> None:
    lately = Lately()
    for number in range(MOST):
        lately.note(number)
    lately.note(0)
    lately.note("one more")
    assert [lately.is_due(0), lately.is_due(1), lately.is_due(2)] == [False, True, False]
