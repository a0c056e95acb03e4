"""What a mod of another framework may do without a line of config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc.manifest import OPENAGENTS
from modvisor.supervisor.config import ModConfig, as_host_says, fingerprint, host_given
from modvisor.supervisor.config.mods.entry import parse_mod

AGENTS, CHANNELS = frozenset({"agent:*"}), frozenset({"channels"})


def entry(**keys: Any) -> ModConfig:
    return parse_mod({"path": "their.mods.forum", **keys}, base_dir=Path("/"))


@pytest.mark.parametrize(
    ("keys", "speak_for", "permissions"),
    [
        ({}, AGENTS, CHANNELS),
        ({"speak_for": []}, frozenset(), CHANNELS),
        ({"speak_for": ["mod:wiki"]}, frozenset({"mod:wiki"}), CHANNELS),
        ({"permissions": []}, AGENTS, frozenset()),
        ({"permissions": ["mods"], "speak_for": ["*"]}, frozenset({"*"}), frozenset({"mods"})),
    ],
)
def test_what_the_entry_says_rules(keys: dict[str, Any], speak_for: Any, permissions: Any) -> None:
    asked = entry(**keys)
    config = as_host_says(asked, OPENAGENTS)
    assert (config.speak_for, config.permissions, config.host) == (speak_for, permissions, OPENAGENTS)
    assert config.as_asked == asked
    assert fingerprint(config) == fingerprint(asked)
    assert as_host_says(config, OPENAGENTS) == config
    assert host_given(config) == frozenset(keys)


@pytest.mark.parametrize("host", [None, "unheard of"])
def test_others_get_nothing(host: str | None) -> None:
    asked = entry()
    assert as_host_says(asked, host) is asked
