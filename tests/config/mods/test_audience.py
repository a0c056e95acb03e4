"""Which version a source has: one at most, the same every time, by name before group before share before the default."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config.mods.audience import Audience, FamilyVersion, Split, family_of, position

FAMILY = "wiki"
IDS = ("wiki", "wiki@1", "wiki@2", "wiki@canary")
SOURCES = ("agent:alice", "agent:bob", "agent:carol", "mod:shop", "mod:wiki@1", "system:system")
GROUPS = ("beta", "staff")
MANY = [f"agent:a{n}" for n in range(10_000)]

audiences = st.builds(
    Audience,
    agents=st.frozensets(st.sampled_from(SOURCES), max_size=3),
    groups=st.frozensets(st.sampled_from(GROUPS)),
    percent=st.sampled_from([0.0, 0.5, 10.0, 25.0]),
)
versions = st.lists(
    st.builds(FamilyVersion, st.sampled_from(IDS), st.none() | audiences, st.integers(0, 3)),
    min_size=1, max_size=4, unique_by=lambda version: version.mod_id,
)  # fmt: skip
sources = st.sampled_from(SOURCES) | st.integers(0, 9999).map(lambda n: f"agent:a{n}")
groups = st.none() | st.sampled_from(GROUPS)


@given(versions, sources, groups)
def test_a_source_has_the_version_that_the_rules_say(
    versions: list[FamilyVersion], source: str, group: str | None
) -> None:
    """The rules once more, one after the other, in the order in which the manual has them."""
    split = Split(FAMILY, tuple(versions))
    given_one = [version for version in versions if version.audience is not None]
    named = [version.mod_id for version in given_one if version.audience and source in version.audience.agents]
    named += [version.mod_id for version in versions if source == f"mod:{version.mod_id}"]
    named += [version.mod_id for version in given_one if version.audience and group in version.audience.groups]
    end = 0.0
    for version in given_one:
        assert version.audience is not None
        if end <= position(FAMILY, source) < end + version.audience.percent:
            named.append(version.mod_id)
        end += version.audience.percent
    free = [version for version in versions if version.audience is None]
    free.sort(key=lambda version: version.mod_id != FAMILY)
    free.sort(key=lambda version: -version.promoted)
    named += [version.mod_id for version in free]
    assert split.pick(source, group) == (named[0] if named else None)


@given(versions, sources, groups)
def test_there_is_one_version_at_most_and_somebody_without_an_audience_makes_it_one(
    versions: list[FamilyVersion], source: str, group: str | None
) -> None:
    split = Split(FAMILY, tuple(versions))
    picked = split.pick(source, group)
    assert picked in {None, *(version.mod_id for version in versions)}
    if any(version.audience is None for version in versions):
        assert picked is not None
        assert split.default is not None


@given(versions, st.integers(0, 3), st.floats(0, 100))
def test_a_percentage_that_grows_only_takes_sources_in(versions: list[FamilyVersion], which: int, more: float) -> None:
    which %= len(versions)
    grown = versions[which]
    former = grown.audience or Audience()
    before = [*versions[:which], grown._replace(audience=former), *versions[which + 1 :]]
    larger = Audience(former.agents, former.groups, min(100.0, former.percent + more))
    after = [*versions[:which], grown._replace(audience=larger), *versions[which + 1 :]]
    one, other = Split(FAMILY, tuple(before)), Split(FAMILY, tuple(after))
    for source in MANY[:300]:
        if one.pick(source) == grown.mod_id:
            assert other.pick(source) == grown.mod_id


@pytest.mark.parametrize("percents", [(10,), (1, 5), (50, 25, 25), (33.3, 33.3, 33.4)])
def test_the_shares_of_ten_thousand_sources_are_about_what_was_asked(percents: tuple[float, ...]) -> None:
    canaries = [FamilyVersion(f"wiki@{n}", Audience(percent=percent)) for n, percent in enumerate(percents)]
    split = Split(FAMILY, (FamilyVersion("wiki"), *canaries))
    found = [split.pick(source) for source in MANY]
    for version, percent in zip(canaries, percents, strict=True):
        assert found.count(version.mod_id) / 100 == pytest.approx(percent, abs=1.5)
    if sum(percents) >= 100 - 1e-9:
        assert "wiki" not in found, "nobody falls into the gap that rounding leaves"


def test_families_divide_the_same_sources_independently() -> None:
    first = {source for source in MANY if position("wiki", source) < 10}
    second = {source for source in MANY if position("shop", source) < 10}
    assert len(first & second) == pytest.approx(100, abs=40), "10 % of 10 %, not the same agents in each trial"


def test_the_choice_is_the_same_in_another_process() -> None:
    script = "from modvisor.supervisor.config.mods.audience import position; print(position('wiki', 'agent:alice'))"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert float(done.stdout) == position("wiki", "agent:alice") == pytest.approx(POSITION_OF_ALICE)


POSITION_OF_ALICE = 55.25498748756945
"""Never to change: every agent of every network would change sides."""


@pytest.mark.parametrize(
    ("mod_id", "family"),
    [("wiki", "wiki"), ("wiki@2", "wiki"), ("wiki@2@x", "wiki"), ("wiki@", "wiki"), ("@2", "@2"), ("a.b@c", "a.b")],
)
def test_family_of(mod_id: str, family: str) -> None:
    assert family_of(mod_id) == family


def test_in_words() -> None:
    beta = Audience(frozenset({"agent:alice", "mod:shop"}), frozenset({"beta"}), 12.5)
    assert str(beta) == "12.5 % of the sources, group beta, agents alice, mod:shop"
    crowd = Audience(frozenset(f"agent:a{n}" for n in range(5)), frozenset({"b", "a"}))
    assert str(crowd) == "groups a, b, agents a0, a1, a2 and 2 more"
    assert str(Audience()) == "nobody"
    split = Split(FAMILY, (FamilyVersion("wiki"), FamilyVersion("wiki@1"), FamilyVersion("wiki@2", beta)))
    assert [split.reaches(mod_id) for mod_id in ("wiki", "wiki@1", "wiki@2")] == ["everyone else", "nobody", str(beta)]
    assert Split(FAMILY, (FamilyVersion("wiki"), FamilyVersion("wiki@1"))).reaches("wiki") == "everyone"
    assert Split(FAMILY, (FamilyVersion("wiki"), FamilyVersion("wiki@1", Audience()))).reaches("wiki") == "everyone"
