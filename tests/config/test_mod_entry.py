"""Entries of mods that are given while the network runs, and what is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from modvisor.ipc.errors import InvalidEvent
from modvisor.supervisor.config.mod_entry import (
    BUNDLED,
    fingerprint,
    is_fingerprint_of,
    mod_config,
    parse_mod,
    with_aliases,
    with_bundled_permissions,
    with_changes,
)
from modvisor.supervisor.config.mod_file import ModFile, with_mod_file

MESSAGING = "modvisor.mods.workspace.messaging"
BASE = Path("/base")


def test_the_entry_of_a_load_is_kept_for_the_journal() -> None:
    mod = mod_config("pkg.x", base_dir=BASE, config={"a": 1}, dependency=True, durable=True)
    assert (mod.path, mod.mod_id, mod.from_file, mod.dependency, mod.durable) == ("pkg.x", "x", False, True, True)
    assert mod.spec == {"config": {"a": 1}, "durable": True, "dependency": True}
    assert mod.given == {"path", "id", "config", "config.a", "durable"}
    with pytest.raises(InvalidEvent):
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


def test_a_fingerprint_of_an_earlier_version_may_be_that_of_any_config() -> None:
    one, other = (parse_mod({"path": "pkg.x", "durable": durable}, base_dir=BASE) for durable in (True, False))
    assert is_fingerprint_of(fingerprint(one), one)
    assert not is_fingerprint_of(fingerprint(one), other)
    assert is_fingerprint_of("0" * 64, one), "its quarantine stays"


def test_a_fingerprint_is_of_what_is_asked_for() -> None:
    one = parse_mod({"path": "pkg.x", "permissions": ["mods", "agents"]}, base_dir=BASE)
    same = parse_mod({"permissions": ["agents", "mods"], "path": "pkg.x", "enabled": True}, base_dir=BASE)
    assert (
        fingerprint(one) == fingerprint(same) == fingerprint(with_mod_file(one, ModFile("mod.yaml", "durable: true")))
    )
    assert fingerprint(one) != fingerprint(parse_mod({"path": "pkg.x", "durable": True}, base_dir=BASE))
