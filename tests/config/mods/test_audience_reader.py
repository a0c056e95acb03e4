"""The ``audience`` of a mod: what it means, and every mistake in it, where it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modvisor.supervisor.config.mods.audience import Audience
from modvisor.supervisor.config.mods.audience_reader import misfit, read_audience
from modvisor.supervisor.config.mods.entry import fingerprint, mod_config, parse_mod
from modvisor.supervisor.config.network.network_file import load_config, parse_config
from modvisor.supervisor.config.yaml.source import ConfigError

WIKI = "modvisor.mods.workspace.wiki"
EMPTY = (
    ".audience: the audience is empty; give agents, groups or a percent of the sources, "
    "or remove the key so that the mod is for everybody"
)
HEAD = f"network: {{name: demo}}\nagent_groups: {{beta: {{}}, staff: {{}}}}\nmods:\n  - {WIKI}\n"


def mistakes(tmp_path: Path, *audiences: str) -> list[str]:
    """The mistakes in a file whose mods wiki@1, wiki@2 … have these audiences, in lines 5, 6 …"""
    file = tmp_path / "network.yaml"
    entries = (f"  - {{path: {WIKI}, id: wiki@{n}, audience: {text}}}\n" for n, text in enumerate(audiences, 1))
    file.write_text(HEAD + "".join(entries))
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    return [line.removeprefix(f"{file}:") for line in str(caught.value).splitlines()]


def test_what_it_means(tmp_path: Path) -> None:
    entry = {"path": WIKI, "audience": {"agents": ["alice", "mod:shop", "system"], "groups": ["beta"], "percent": 12.5}}
    mod = parse_mod(entry, base_dir=tmp_path)
    assert mod.audience == Audience(frozenset({"agent:alice", "mod:shop", "system:system"}), frozenset({"beta"}), 12.5)
    assert parse_mod({"path": WIKI, "audience": {"percent": 0}}, base_dir=tmp_path).audience == Audience()
    assert parse_mod(WIKI, base_dir=tmp_path).audience is None


@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        ("", EMPTY),
        ("{}", EMPTY),
        ("10", ".audience: expected a mapping with agents, groups or percent, got 10"),
        ("[beta]", ".audience: expected a mapping with agents, groups or percent, got a list"),
        ("{percent: 101}", ".audience.percent: expected a number from 0 to 100, got 101"),
        ("{percent: 10%}", ".audience.percent: expected a number from 0 to 100, got '10%'"),
        ("{group: beta}", ".audience.group: unknown key; did you mean 'groups'?"),
        ("{groups: beta}", ".audience.groups: expected a list such as ['beta'], got 'beta'"),
        ("{groups: [bta]}", ".audience.groups[0]: no group 'bta' in agent_groups; did you mean 'beta'?"),
        ("{groups: ['a b']}", ".audience.groups[0]: expected the name of a group, got 'a b'"),
        ("{agents: ['group:beta']}",
         ".audience.agents[0]: expected a source such as 'alice', 'agent:alice' or 'mod:shop', got 'group:beta'"),
        ("{agents: ['agent:broadcast']}",
         ".audience.agents[0]: expected a source such as 'alice', 'agent:alice' or 'mod:shop', got 'agent:broadcast'"),
        ("{agents: ['mod:./x']}", ".audience.agents[0]: mod id './x': expected lower-case letters, digits, '_', '.', '@', '-' "
                                  "(1 to 128, no '..')"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, audience: str, expected: str) -> None:
    assert expected in [line.partition("mods[1]")[2] for line in mistakes(tmp_path, audience)]


def test_versions_that_ask_for_more_than_all_there_is(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "{percent: 50}", "{percent: 30}", "{percent: 20.5}") == [
        "7: mods[3].audience.percent: the percentages of the versions of wiki add up to 100.5 (wiki@1 50, wiki@2 30, "
        "wiki@3 20.5); lower them to 100 or less"
    ]


def test_a_third_each_is_not_too_much(tmp_path: Path) -> None:
    mods = [{"path": WIKI, "id": f"wiki@{n}", "audience": {"percent": 100 / 3}} for n in range(3)]
    mods.append({"path": WIKI, "id": "wiki@off", "enabled": False, "audience": {"percent": 100}})
    parse_config({"network": {"name": "n"}, "mods": mods}, base_dir=tmp_path)


def test_groups_that_cannot_be_read_hide_nothing_else(tmp_path: Path) -> None:
    data = {"network": {"name": "n"}, "agent_groups": 7, "mods": [{"path": WIKI, "audience": {"groups": ["beta"]}}]}
    with pytest.raises(ConfigError) as caught:
        parse_config(data, base_dir=tmp_path)
    assert [problem.key for problem in caught.value.problems] == ["agent_groups"]


audiences = st.builds(
    Audience,
    st.frozensets(st.sampled_from(["agent:alice", "mod:shop"])),
    st.frozensets(st.sampled_from(["beta"])),
    st.floats(0, 100),
)


@given(audiences)
def test_what_is_written_down_is_read_back(audience: Audience) -> None:
    assert read_audience(audience.to_plain()) == audience


def test_another_audience_asks_for_no_other_process(tmp_path: Path) -> None:
    one = mod_config(WIKI, base_dir=tmp_path, audience={"percent": 1})
    other = mod_config(WIKI, base_dir=tmp_path, audience={"percent": 2})
    assert one == other, "a reconfiguration does not reload it"
    assert fingerprint(one) == fingerprint(other), "a quarantine does not end by it"


@pytest.mark.parametrize(
    ("wanted", "others", "expected"),
    [
        (None, {"wiki": None}, None),
        ({"percent": 60}, {"wiki@2": 40, "shop": 90}, None),
        ({"percent": 60}, {"wiki@1": 90, "wiki@2": 40}, None),  # in place of its former one
        ({"percent": 61}, {"wiki@2": 40},
         "audience.percent: the percentages of the versions of wiki add up to 101 (wiki@2 40, wiki@1 61); "
         "lower them to 100 or less"),
        ({"groups": ["bet"]}, {}, "audience.groups: no group 'bet' in agent_groups; did you mean 'beta'?"),
    ],
)  # fmt: skip
def test_whether_it_fits_a_network(
    wanted: dict[str, Any] | None, others: dict[str, float | None], expected: str | None
) -> None:
    there = {mod_id: None if percent is None else Audience(percent=percent) for mod_id, percent in others.items()}
    found = misfit("wiki@1", None if wanted is None else read_audience(wanted), there, ["beta"])
    assert found == expected
