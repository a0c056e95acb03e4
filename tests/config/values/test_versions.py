"""Which of several versions is meant, and whether the running one is the requested one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.config.values.versions import (
    WrongVersion,
    check_version,
    matching_version,
    newest_final_version,
    parse_version,
    same_version,
    versions_in_order,
)

releases = st.lists(st.integers(0, 30), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
suffixes = st.sampled_from(["", "", "", "a1", "rc2", ".dev3", ".post1"])
versions = st.builds("{}{}".format, releases, suffixes)
words = st.text(max_size=10)


@given(st.lists(versions, unique=True))
def test_the_newest_final_one_is_final_and_none_that_is_final_is_newer(names: list[str]) -> None:
    final = [name for name in names if not Version(name).is_prerelease]
    newest = newest_final_version(names)
    assert (newest is None) == (not final)
    assert newest is None or (newest in final and all(Version(newest) >= Version(name) for name in final))


@given(st.lists(versions | words))
def test_the_order_is_that_of_pep_440_and_what_is_no_version_comes_first(names: list[str]) -> None:
    ordered = versions_in_order(names)
    assert sorted(ordered) == sorted(names)
    ranks = [parse_version(name) for name in ordered]
    known = [rank for rank in ranks if rank is not None]
    assert ranks == [None] * (len(ranks) - len(known)) + sorted(known)


@given(versions | words, versions | words)
def test_the_same_is_what_pep_440_calls_equal_or_the_same_text(one: str, other: str) -> None:
    assert same_version(one, other) == same_version(other, one)
    assert same_version(one, one)
    if parse_version(one) and parse_version(other):
        assert same_version(one, other) == (Version(one) == Version(other))
        assert matching_version(one, [other]) == (other if same_version(one, other) else None)
    else:
        assert same_version(one, other) == (one == other)


@given(st.none() | versions, st.none() | versions, versions | words)
def test_who_speaks_of_a_version_must_mean_the_same(asked: str | None, declared: str | None, reported: str) -> None:
    told: ModvisorError | None = None
    try:
        check_version(asked, declared, reported)
    except ModvisorError as error:
        told = error
    if asked is not None and not same_version(asked, reported):
        assert isinstance(told, WrongVersion)
        assert (told.details["asked"], told.details["found"]) == (asked, reported)
    elif declared is not None and not same_version(declared, reported):
        assert told is not None
        assert (told.code, told.details["declared"], told.details["found"]) == ("invalid_mod", declared, reported)
    else:
        assert told is None
