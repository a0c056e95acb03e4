"""What is kept of an entry of the network file, to tell later whether it was edited."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.config import ModConfig, entry_hash, is_entry, parse_config
from modvisor.supervisor.config.mods.entry import former_entry_hash

pytestmark = pytest.mark.timeout(20)


def entry_in(folder: Path, entry: Any) -> ModConfig:
    for name in ("mods/wiki", "lib", "other", "../shared"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "mods/wiki/mod.py").touch()
    config = parse_config({"network": {"name": "n"}, "mods": [entry]}, base_dir=folder)
    return config.mods[0]


def test_the_same_entry_has_one_hash_wherever_the_file_lies(tmp_path: Path) -> None:
    entry = {"path": "./wiki", "paths": ["lib", "../shared"], "env": {"HOME_OF": "x"}, "limits": {"memory": "1 GB"}}
    one, two = (entry_in(tmp_path / name, entry) for name in ("in/one", "in/two/deeper"))
    assert one.paths != two.paths
    assert entry_hash(one) == entry_hash(two)
    assert entry_hash(entry_in(tmp_path, {**entry, "paths": ["lib"]})) != entry_hash(one)


@pytest.mark.parametrize("same", ["./wiki", {"path": "./wiki"}, {"name": "./wiki"}])
def test_an_entry_has_one_hash_in_all_ways_to_write_its_path(same: Any, tmp_path: Path) -> None:
    assert entry_hash(entry_in(tmp_path, same)) == entry_hash(entry_in(tmp_path, "./wiki"))


def test_a_hash_that_an_earlier_version_kept_still_counts(tmp_path: Path) -> None:
    entry = entry_in(tmp_path, {"path": "./wiki", "paths": ["lib"]})
    assert is_entry(former_entry_hash(entry), entry)
    assert is_entry(entry_hash(entry), entry)
    edited = entry_in(tmp_path, {"path": "./wiki", "paths": ["other"]})
    assert not is_entry(former_entry_hash(entry), edited)
    assert not is_entry(entry_hash(entry), edited)
