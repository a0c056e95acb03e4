"""What a change of each key does: one table, with every key of the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from modvisor.supervisor.config.network.effects import EFFECTS, Effect, changed_keys, in_force
from modvisor.supervisor.config.network.network import NetworkConfig
from modvisor.supervisor.config.network.network_file import parse_config
from modvisor.supervisor.config.printed.reference import TABLES

PLACES = {name.removesuffix(".NAME").removesuffix("[]") for name in TABLES}
KEYS = {
    f"{table}.{name}"
    for table, keys in TABLES.items()
    for name in keys
    if (name if table == "the file" else f"{table}.{name}") not in PLACES  # a section, whose keys have entries
}


def config(tmp_path: Path, **sections: object) -> NetworkConfig:
    network = {"name": "demo", **sections.pop("network", {})}  # type: ignore[dict-item]
    return parse_config({"network": network, **sections}, base_dir=tmp_path)


def test_every_key_of_the_file_says_what_its_change_does() -> None:
    missing = sorted(KEYS - EFFECTS.keys())
    assert not missing, (
        f"say in supervisor/config/network/effects.py what a running network does when these keys change, then run "
        f"'make docs': {', '.join(missing)}"
    )
    assert not EFFECTS.keys() - KEYS, "supervisor/config/network/effects.py names keys that the file does not have"


def test_keys_are_named_as_in_the_file(tmp_path: Path) -> None:
    old = config(tmp_path)
    new = config(tmp_path, network={"id": "other", "port": 1}, logs={"backups": 1}, agents={"max_agents": 7})
    assert [key.name for key in changed_keys(old, new)] == ["id", "port", "agents.max_agents", "logs.backups"]


def test_a_group_is_named(tmp_path: Path) -> None:
    staff, boss = {"permissions": ["mods"]}, {"permissions": []}
    old = config(tmp_path, agent_groups={"staff": staff, "gone": boss})
    new = config(tmp_path, agent_groups={"staff": boss, "new": staff})
    found = {key.name: key.effect for key in changed_keys(old, new)}
    assert found == dict.fromkeys(
        ["agent_groups.staff.permissions", "agent_groups.new", "agent_groups.gone"], Effect.NOW
    )


def test_a_key_without_an_entry_counts_as_one_that_needs_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(EFFECTS, "agents.max_agents")  # type: ignore[arg-type]
    old, new = config(tmp_path), config(tmp_path, agents={"max_agents": 7, "inbox_size": 8})
    assert {key.name: key.effect for key in changed_keys(old, new)} == {
        "agents.max_agents": Effect.RESTART,
        "agents.inbox_size": Effect.NOW,
    }
    taken = in_force(old, new).agents
    assert (taken.max_agents, taken.inbox_size) == (old.agents.max_agents, 8)


def test_what_is_in_force_differs_from_the_file_only_in_what_needs_a_restart(tmp_path: Path) -> None:
    old = config(tmp_path)
    new = config(
        tmp_path,
        network={"id": "other", "watch": True},
        allowed_mods=["./*"],
        agents={"inbox_size": 3},
        journal={"dead_letters": 0},
    )
    left = changed_keys(in_force(old, new), new)
    assert {key.name for key in left} == {"id", "watch", "journal.dead_letters"}
    assert {key.effect for key in left} == {Effect.RESTART}
    assert in_force(old, replace(old, file=tmp_path / "other.yaml")).file == tmp_path / "other.yaml"
