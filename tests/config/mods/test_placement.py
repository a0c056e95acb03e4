"""The key `placement` of a mod's entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.config.mods.entry import fingerprint, parse_mod
from modvisor.supervisor.config.mods.placement import PlacementConfig
from modvisor.supervisor.config.network.network_file import load_config
from modvisor.supervisor.config.yaml.source import ConfigError

WIKI = "modvisor.mods.workspace.wiki"


def placed(tmp_path: Path, placement: Any, **more: Any) -> PlacementConfig:
    return parse_mod({"path": WIKI, "placement": placement, **more}, base_dir=tmp_path).placement


def test_a_mod_runs_anywhere_and_once(tmp_path: Path) -> None:
    assert parse_mod(WIKI, base_dir=tmp_path).placement == PlacementConfig()
    assert PlacementConfig().is_exclusive


def test_a_mod_on_all_nodes_is_not_claimed(tmp_path: Path) -> None:
    assert not placed(tmp_path, {"copies": "all"}).is_exclusive
    assert placed(tmp_path, {"copies": 1}).is_exclusive


def test_each_of_several_copies_is_claimed(tmp_path: Path) -> None:
    several = placed(tmp_path, {"copies": 3}, durable=True, partition_by="payload.key")
    assert (several.is_exclusive, several.has_copies) == (True, True)
    assert not placed(tmp_path, {"copies": 1}).has_copies
    assert not placed(tmp_path, {"copies": "all"}).has_copies


def test_the_bare_word_on_is_a_key_here(tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(
        f"network: {{name: n}}\nmods:\n  - path: {WIKI}\n    placement:\n      on: [gpu, 'b']\n"
    )
    assert load_config(tmp_path / "network.yaml").mods[0].placement.on == ("gpu", "b")


def test_the_bare_word_on_is_no_key_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text("network: {name: n, on: 1}\n")
    with pytest.raises(ConfigError, match="YAML reads this key as bool"):
        load_config(tmp_path / "network.yaml")


def test_the_default_leaves_the_fingerprint_as_it_was(tmp_path: Path) -> None:
    plain = parse_mod(WIKI, base_dir=tmp_path)
    same = parse_mod({"path": WIKI, "placement": {"copies": 1}}, base_dir=tmp_path)
    other = parse_mod({"path": WIKI, "placement": {"copies": "all"}}, base_dir=tmp_path)
    assert fingerprint(plain) == fingerprint(same) != fingerprint(other)


@pytest.mark.parametrize(
    ("placement", "more", "expected"),
    [
        ({"copies": 0}, {}, "mods.placement.copies: expected a whole number from 1 to 256, or 'all', got 0"),
        ({"copies": True}, {}, "or 'all', got true"),
        ({"copies": 3}, {"workers": 2}, "placement.copies: the copies are the workers of the mod, on several nodes"),
        (
            {"copies": 3},
            {"durable": True, "partition_by": "least_loaded"},
            "an accepted event that is sent again must come to the same copy",
        ),
        ({"on": "gpu"}, {}, "expected a list such as [gpu], got 'gpu'"),
        ({"at": ["gpu"]}, {}, "unknown key"),
    ],
)
def test_mistakes(tmp_path: Path, placement: Any, more: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        placed(tmp_path, placement, **more)
    assert expected.removeprefix("mods.") in str(caught.value)


def test_workers_go_with_one_copy_and_with_all(tmp_path: Path) -> None:
    for copies in (1, "all"):
        assert placed(tmp_path, {"copies": copies}, workers=2).copies == copies
