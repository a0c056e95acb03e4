"""Entries of mods that are given while the network runs, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from modvisor.supervisor.config.mods.entry import (
    BUNDLED,
    fingerprint,
    is_as_quarantined,
    mod_config,
    parse_mod,
    with_aliases,
    with_bundled_permissions,
    with_changes,
)
from modvisor.supervisor.config.mods.mod_file import ModFile, with_mod_file
from modvisor.supervisor.config.yaml.source import ConfigError

MESSAGING = "modvisor.mods.workspace.messaging"
BASE = Path("/base")


def test_the_entry_of_a_load_is_kept_for_the_journal() -> None:
    mod = mod_config("pkg.x", base_dir=BASE, config={"a": 1}, dependency=True, durable=True)
    assert (mod.path, mod.mod_id, mod.from_file, mod.dependency, mod.durable) == ("pkg.x", "x", False, True, True)
    assert mod.spec == {"config": {"a": 1}, "durable": True, "dependency": True}
    assert mod.given == {"path", "config", "config.a", "durable"}
    with pytest.raises(ConfigError):
        mod_config("no path", base_dir=BASE)


def test_bundled_mods_have_their_permissions_without_a_line_of_config() -> None:
    assert mod_config(MESSAGING, base_dir=BASE).permissions == BUNDLED[MESSAGING] == {"channels"}
    other = parse_mod("pkg.x", base_dir=BASE)
    assert with_bundled_permissions(other) is other


def test_a_change_drops_what_a_mod_yaml_added() -> None:
    asked = mod_config("pkg.x", base_dir=BASE, config={"a": 1})
    mod = with_mod_file(asked, ModFile("mod.yaml", "durable: true"))
    assert with_changes(mod) is mod
    changed = with_changes(mod, path=MESSAGING, config={"a": 2})
    assert (changed.path, changed.config, changed.permissions, changed.durable) == (
        MESSAGING,
        {"a": 2},
        {"channels"},
        False,
    )
    assert changed.spec == {"config": {"a": 2}}


def test_aliases_are_added_without_the_own_id() -> None:
    mod = with_aliases(mod_config("pkg.x", base_dir=BASE, aliases=["old"]), ["x", "older"])
    assert mod.aliases == {"old", "older"}
    assert mod.spec == {"aliases": ["old", "older"]}


def test_a_fingerprint_is_of_what_is_asked_for() -> None:
    one = parse_mod({"path": "pkg.x", "permissions": ["mods", "agents"]}, base_dir=BASE)
    same = parse_mod({"permissions": ["agents", "mods"], "path": "pkg.x", "enabled": True}, base_dir=BASE)
    assert (
        fingerprint(one) == fingerprint(same) == fingerprint(with_mod_file(one, ModFile("mod.yaml", "durable: true")))
    )
    assert fingerprint(one) != fingerprint(parse_mod({"path": "pkg.x", "durable": True}, base_dir=BASE))


def test_a_quarantine_ends_when_its_entry_changes_and_lasts_over_an_upgrade() -> None:
    config = parse_mod({"path": "pkg.x", "limits": {"memory": "64MB"}, "config": {"a": 1}}, base_dir=BASE)
    assert is_as_quarantined(fingerprint(config), config)
    for change in ({"limits": {"memory": "65MB"}}, {"config": {"a": 2}}, {"partition_by": "source"}, {"path": "pkg.y"}):
        entry = {"path": "pkg.x", "limits": {"memory": "64MB"}, "config": {"a": 1}, **change}
        assert not is_as_quarantined(fingerprint(config), parse_mod(entry, base_dir=BASE))
    of_0_2 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert is_as_quarantined(of_0_2, config)
