"""Who needs whom among loaded mods."""

from __future__ import annotations

import pytest

from modvisor.ipc.errors import ModvisorError
from modvisor.supervisor.fleet.registry.dependents import Dependents, names_of
from modvisor.supervisor.lifecycle.states import State

from ..fake_mods import config, fake_mod


def test_a_mod_is_required_by_its_id_its_aliases_and_the_end_of_its_path() -> None:
    assert names_of(config("wiki@2")) == {"wiki@2", "wiki"}


def test_a_mod_needs_the_one_mod_that_meets_its_requirement() -> None:
    store, shop, draining = fake_mod("store"), fake_mod("shop", requires=["store"]), fake_mod("x", state=State.DRAINING)
    dependents = Dependents([store, shop, draining])
    assert [mod.mod_id for mod in dependents.loaded()] == ["store", "shop"]
    assert dependents.dependents() == {"store": ["shop"]}
    assert dependents.required_by("shop") == []


def test_nothing_is_lost_while_two_mods_meet_a_requirement() -> None:
    first, second = fake_mod("store"), fake_mod("store@2")
    assert Dependents([first, second, fake_mod("shop", requires=["store"])]).dependents() == {}


def test_a_failed_mod_needs_nothing_and_a_load_under_way_does() -> None:
    dependents = Dependents([fake_mod("store"), fake_mod("shop", requires=["store"], state=State.FAILED)])
    assert dependents.dependents() == {}
    dependents.coming["cart"] = frozenset({"store"})
    assert dependents.required_by("store") == ["cart"]


def test_a_mod_does_not_start_without_what_it_requires() -> None:
    dependents = Dependents([fake_mod("shop", requires=["store"])])
    with pytest.raises(ModvisorError, match="store"):
        dependents.check(config("shop", requires=["store"]))
    Dependents([fake_mod("store")]).check(config("shop", requires=["store"]))


def test_mods_do_not_require_each_other() -> None:
    dependents = Dependents([fake_mod("store", requires=["shop"]), fake_mod("shop")])
    with pytest.raises(ModvisorError, match="require each other"):
        dependents.check(config("shop", requires=["store"]))


def test_a_version_that_dependents_cannot_work_with_is_refused() -> None:
    dependents = Dependents([fake_mod("store", version="1.0"), fake_mod("shop", requires=["store<2"])])
    dependents.admit("store", config("store"), "1.5")
    with pytest.raises(ModvisorError) as refused:
        dependents.admit("store", config("store"), "2.0")
    assert (refused.value.code, refused.value.details["needed_by"]) == ("needed", ["shop"])


def test_a_name_that_a_mod_requires_means_the_mod_that_meets_it() -> None:
    dependents = Dependents([fake_mod("store@2", version="2.0")])
    assert dependents.answering(config("shop", requires=["store>=2"]), "mod:store") == "mod:store@2"
    assert dependents.answering(config("shop"), "mod:store") == "mod:store"
