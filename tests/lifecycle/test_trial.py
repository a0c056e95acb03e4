from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.lifecycle.trial import BEARABLE, LEAST, Tally, has_failed


@pytest.mark.parametrize(
    ("before", "after", "failed"),
    [
        ((0, 0), (9, 9), False),  # too few to say
        ((0, 0), (10, 10), True),
        ((1000, 0), (10, 5), True),
        ((1000, 0), (10, 1), False),  # one may be chance
        ((1000, 0), (10, 2), False),
        ((1000, 0), (100, 20), True),
        ((1000, 500), (100, 60), False),  # no better than before, and not much worse
        ((1000, 200), (100, 90), True),
        ((1000, 0), (100_000, 4_000), False),  # bearable
        ((1000, 0), (0, 0), False),
    ],
)
def test_what_is_a_failure(before: tuple[int, int], after: tuple[int, int], failed: bool) -> None:
    why = has_failed(Tally(*before), Tally(*after))
    assert (why is not None) == failed
    if why is not None:
        assert why == f"{after[1]} of {after[0]} events failed; {before[1]} of {before[0]} did before"


def tallies(least: int = 0) -> st.SearchStrategy[Tally]:
    return st.integers(least, 5000).flatmap(lambda total: st.builds(Tally, st.just(total), st.integers(0, total)))


@given(tallies(), tallies())
def test_what_fails_no_oftener_than_before_is_never_taken_back(before: Tally, after: Tally) -> None:
    share = before.failed / before.total if before.total else 0.0
    if after.total and after.failed / after.total <= max(BEARABLE, 2 * share):
        assert has_failed(before, after) is None


@given(tallies(), tallies(LEAST))
def test_more_failures_never_make_it_better(before: Tally, after: Tally) -> None:
    if has_failed(before, after) and after.failed < after.total:
        assert has_failed(before, Tally(after.total, after.failed + 1))


@given(tallies(), tallies())
def test_a_tally_since_another(former: Tally, more: Tally) -> None:
    now = Tally(former.total + more.total, former.failed + more.failed)
    assert now.since(former) == more
