"""Any graph of mods, versions and demands: a valid order, or an explanation; never a hang, never half of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config.values.versions import Requirement
from modvisor.supervisor.sources.resolve import Offer, Plan, Present, Unmet, plan, supplier

NAMES = ["a", "b", "c", "d", "e", "f"]
VERSIONS = ["1.0", "1.5", "2.0", "3.0rc1"]

names = st.sampled_from(NAMES)
requirements = st.builds(
    lambda name, specifier: Requirement.parse(name + specifier),
    names,
    st.sampled_from(["", "", ">=1", ">=1,<2", "<2", ">=2", "==1.5", "!=1.0", ">3"]),
)
several = st.lists(requirements, max_size=3).map(tuple)
versions = st.sampled_from([*VERSIONS, None])


@st.composite
def presents(draw: st.DrawFn, prefix: str, most: int) -> list[Present]:
    """Mods with ids of their own; what they are called besides is free."""
    count = draw(st.integers(0, most))
    ids = [
        f"{draw(names)}{draw(st.sampled_from(['', '@2', '@3']))}" if prefix == "" else f"{prefix}{n}"
        for n in range(count)
    ]
    made = []
    for mod_id in dict.fromkeys(ids):
        called = {mod_id, mod_id.partition("@")[0], *draw(st.lists(names, max_size=1))}
        made.append(Present(mod_id, frozenset(called), draw(versions), draw(several), draw(several)))
    return made


offers = st.dictionaries(names, st.lists(st.tuples(versions, several), max_size=4)).map(
    lambda found: {name: [Offer(name, version, requires) for version, requires in each] for name, each in found.items()}
)


def check(made: Plan, wanted: list[Present], there: list[Present], offered: dict[str, list[Offer]]) -> None:
    """Each comes after what it requires, and every demand is met by exactly that."""
    assert sorted(made.order) == sorted([*(mod.mod_id for mod in wanted), *made.offers])
    place = {name: index for index, name in enumerate(made.order)}
    for name, offer in made.offers.items():
        assert offer in offered[name]
    everybody = [(mod.mod_id, mod.requires) for mod in wanted]
    everybody += [(name, offer.requires) for name, offer in made.offers.items()]
    for name, requires in everybody:
        for requirement in requires:
            met = supplier(requirement, there)
            if met is None:
                offer = made.offers[requirement.name]
                assert requirement.allows(offer.version)
                assert place[requirement.name] < place[name]
            elif met in wanted and met.mod_id != name:
                assert place[met.mod_id] < place[name]
        assert all(place[first] < place[name] for first in made.after[name])


@given(presents("", 4), presents("old", 3), offers)
def test_there_is_a_valid_order_or_an_explanation(
    wanted: list[Present], present: list[Present], offered: dict[str, list[Offer]]
) -> None:
    offered = {name: each for name, each in offered.items() if name not in {mod.mod_id for mod in wanted}}
    there = [*wanted, *present]
    try:
        made = plan(wanted, present, offered)
    except Unmet as error:
        told = error
    else:
        check(made, wanted, there, offered)
        assert made == plan(wanted, present, offered), "the same each time"
        return
    assert "require" in str(told)
    for demand in told.details.get("demands", ()):
        assert f"{demand['by']} requires {demand['requires']}" in str(told)
    if "cycle" in told.details:
        for name in told.details["cycle"]:
            assert name in str(told)


@given(offers, st.lists(requirements, min_size=1, max_size=3))
def test_what_is_refused_cannot_be_had(offered: dict[str, list[Offer]], requires: list[Requirement]) -> None:
    """Against every choice there is, tried one by one."""
    root = Present("root", frozenset({"root"}), "1.0", tuple(requires))
    try:
        plan([root], [], offered)
    except Unmet as error:
        if "cycle" in error.details:
            return
    else:
        return

    def can(chosen: dict[str, Offer], waiting: list[Requirement]) -> bool:
        if not waiting:
            return True
        first, *rest = waiting
        if first.name == "root":
            return can(chosen, rest)
        if first.name in chosen:
            return first.allows(chosen[first.name].version) and can(chosen, rest)
        return any(
            can({**chosen, first.name: offer}, [*rest, *offer.requires])
            for offer in offered.get(first.name, ())
            if first.allows(offer.version)
        )

    assert not can({}, requires)


def mod(mod_id: str, version: str | None = "1.0", *requires: str, optional: tuple[str, ...] = ()) -> Present:
    called = frozenset({mod_id, mod_id.partition("@")[0]})
    return Present(
        mod_id, called, version, tuple(map(Requirement.parse, requires)), tuple(map(Requirement.parse, optional))
    )


def there_are(**found: dict[str, list[str]]) -> dict[str, list[Offer]]:
    return {
        name: [Offer(name, version, tuple(map(Requirement.parse, requires))) for version, requires in each.items()]
        for name, each in found.items()
    }


def test_dependencies_of_dependencies_come_first() -> None:
    offered = there_are(wiki={"2.0": ["search", "store>=1"]}, search={"1.0": ["store"]}, store={"1.2": []})
    assert plan([mod("shop", "1.0", "wiki>=2")], [], offered).order == ("store", "search", "wiki", "shop")


def test_what_is_loaded_is_used_whichever_version_it_is() -> None:
    loaded = [mod("wiki"), mod("wiki@2", "2.0")]
    wants = [mod("shop", "1.0", "wiki>=2"), mod("crm", "1.0", "wiki<2")]
    made = plan(wants, loaded, there_are(wiki={"3.0": []}))
    assert (made.order, made.offers) == (("shop", "crm"), {})
    assert supplier(Requirement.parse("wiki"), loaded) is loaded[0]
    assert supplier(Requirement.parse("wiki>1"), loaded) is loaded[1]


def test_a_choice_that_leads_nowhere_is_taken_back() -> None:
    offered = there_are(wiki={"2.0": ["store>=2"], "1.0": ["store"]}, store={"1.0": []})
    made = plan([mod("shop", "1.0", "wiki")], [], offered)
    assert made.offers["wiki"].version == "1.0"


def test_what_is_only_used_comes_first_if_it_is_loaded_at_the_same_time_and_closes_no_circle() -> None:
    mods = [mod("shop", "1.0", optional=("wiki",)), mod("wiki")]
    assert plan(mods, [], {}).order == ("wiki", "shop")
    mods = [mod("shop", "1.0", optional=("wiki",)), mod("wiki", "1.0", "shop")]
    assert plan(mods, [], {}).order == ("shop", "wiki")
    assert plan([mods[0]], [], there_are(wiki={"1.0": []})).offers == {}, "it is not loaded for that"


@pytest.mark.parametrize(
    ("wanted", "loaded", "offered", "said"),
    [
        ([mod("shop", "1.0", "wiki>=2")], [], {}, "shop requires wiki>=2; there is no mod wiki (see 'modvisor mods')"),
        ([mod("shop", "1.0", "wiki>=3")], [], there_are(wiki={"1.0": [], "2.0": []}),
         "shop requires wiki>=3; available: wiki 1.0, 2.0"),
        ([mod("shop", "1.0", "wiki>=2")], [mod("wiki")], there_are(wiki={"2.0": []}),
         "shop requires wiki>=2; wiki is 1.0; wiki 2.0 could be loaded beside it under an id of its own"),
        ([mod("shop", "1.0", "wiki>=2")], [mod("wiki", None)], {}, "wiki is of a version that is unknown until it runs"),
        ([mod("shop", "1.0", "wiki", "store<2")], [], there_are(wiki={"1.0": ["store>=2"]}, store={"1.0": [], "2.0": []}),
         "wiki 1.0 requires store>=2"),
        ([mod("shop", "1.0", "wiki")], [], there_are(wiki={"1.0": ["shop"]}), "shop requires wiki requires shop"),
        ([mod("a", "1.0", "b"), mod("b", "1.0", "a")], [], {}, "mods require each other in a circle: "),
    ],
)  # fmt: skip
def test_an_explanation_names_who_wants_what_and_what_there_is(
    wanted: Any, loaded: Any, offered: Any, said: str
) -> None:
    with pytest.raises(Unmet) as caught:
        plan(wanted, loaded, offered)
    assert said in str(caught.value)
