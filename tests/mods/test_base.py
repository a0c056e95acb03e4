"""`modvisor.mods.base`: what a mod that overrides nothing does."""

from __future__ import annotations

import pytest

import modvisor.mods
from modvisor.mods import BaseMod


def test_a_mod_that_overrides_nothing_starts_and_has_no_state() -> None:
    mod = BaseMod()
    assert (mod.initialize(), mod.activate(), mod.check_ready()) == (True, True, True)
    assert (mod.deactivate(), mod.shutdown(), mod.get_state()) == (None, None, None)
    assert mod.set_state({"count": 1}, "1.0.0") is None
    assert mod.on_dependency("wiki", "ready") is None
    assert (mod.version, mod.description, mod.requires, mod.optional) == ("0.0.0", "", (), ())


def test_a_mod_without_merge_and_split_says_that_its_workers_cannot_change() -> None:
    said = r"^the number of workers cannot change: the mod does not define merge_state\(\) and split_state\(\)$"
    with pytest.raises(NotImplementedError, match=said):
        BaseMod().merge_state([1, 2], "1.0.0")
    with pytest.raises(NotImplementedError, match=said):
        BaseMod().split_state(3, 2)


def test_the_sdk_offers_what_it_lists() -> None:
    assert modvisor.mods.__all__ == sorted(modvisor.mods.__all__, key=lambda name: (name[0].islower(), name))
    assert all(getattr(modvisor.mods, name) for name in modvisor.mods.__all__)
