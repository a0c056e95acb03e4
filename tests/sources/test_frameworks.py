"""What the guardian is to import is known from the network's file, without running a mod."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor.config.network.network_file import load_config, parse_config
from modvisor.supervisor.sources.frameworks import modules_to_preload

HOST = "?modvisor.worker.hosts.openagents.warm"
WIKI = "openagents.mods.workspace.wiki"


def modules(tmp_path: Path, *mods: Any, **network: Any) -> tuple[str, ...]:
    (tmp_path / "mods" / "theirs").mkdir(parents=True, exist_ok=True)
    (tmp_path / "mods" / "theirs" / "mod.py").write_text("1 / 0\nfrom openagents.core.base_mod import BaseMod\n")
    (tmp_path / "mods" / "ours").mkdir(exist_ok=True)
    (tmp_path / "mods" / "ours" / "mod.py").write_text("# like openagents\nfrom modvisor.mods import BaseMod\n")
    entries = [{"path": mod} if isinstance(mod, str) else mod for mod in mods]
    config = {"network": {"name": "x", **network}, "mods": entries}
    return modules_to_preload(parse_config(config, base_dir=tmp_path))


@pytest.mark.parametrize(
    ("mods", "expected"),
    [
        ([], ()),
        (["./ours", "modvisor.mods.workspace.wiki"], ()),
        ([WIKI], (HOST, f"?{WIKI}.mod")),
        ([f"{WIKI}.mod"], (HOST, f"?{WIKI}.mod")),
        ([f"{WIKI}.mod:WikiNetworkMod"], (HOST, f"?{WIKI}.mod")),
        (["./theirs"], (HOST,)),
        (["./ours", WIKI, "./theirs"], (HOST, f"?{WIKI}.mod")),
        ([{"path": WIKI, "enabled": False}], ()),
        ([{"path": WIKI, "python": "/usr/bin/python3"}], ()),
    ],
)
def test_mods_of_openagents_suggest_their_host_and_themselves(
    tmp_path: Path, mods: list[Any], expected: tuple[str, ...]
) -> None:
    assert modules(tmp_path, *mods) == expected


def test_a_list_given_by_hand_rules(tmp_path: Path) -> None:
    assert modules(tmp_path, WIKI, preload=["json"]) == ("json",)
    file = tmp_path / "network.yaml"
    file.write_text(f"network: {{name: x, preload: []}}\nmods: [{WIKI}]\n")
    assert modules_to_preload(load_config(file)) == ()
