"""A changed network file, applied to a running network: only what changed is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.config.network_file import load_config

pytestmark = pytest.mark.anyio

FILE = """
network: {{name: n}}
agent_groups: {{staff: {{permissions: {permissions}}}}}
mods:
  - {{path: ./same, config: {{a: 1}}}}
  - {{path: ./changed, config: {{a: {value}}}}}
  - {{path: ./{third}}}
"""


async def test_only_what_changed_is_touched(tmp_path: Path, write_mod: Callable[..., str]) -> None:
    for name in ("same", "changed", "gone", "new", "runtime"):
        write_mod(name)
    file = tmp_path / "network.yaml"
    file.write_text(FILE.format(value=1, third="gone", permissions="[]"))
    async with AgentNetwork.load(file) as network:
        await network.load_mod("./runtime")
        pids = {mod: details["pid"] for mod, details in network.get_loaded_mods().items()}
        file.write_text(FILE.format(value=2, third="new", permissions="[mods]"))
        changes = await network.reconfigure(load_config(file))
        assert changes.success, changes
        assert (list(changes.added), list(changes.changed), list(changes.removed)) == (["new"], ["changed"], ["gone"])
        assert changes.needs_restart == []
        after = {mod: details["pid"] for mod, details in network.get_loaded_mods().items()}
        assert set(after) == {"same", "changed", "new", "runtime"}
        assert after["same"] == pids["same"]
        assert after["runtime"] == pids["runtime"], "what was loaded at runtime is left alone"
        assert after["changed"] != pids["changed"]
        secret = (await network.register_agent("boss", group="staff")).data["secret"]
        event = Event("system.mod.list", "boss", secret=secret)
        assert (await network.process_external_event(event)).success, "the group's new permission counts"


async def test_what_needs_a_restart_is_said(tmp_path: Path) -> None:
    file = tmp_path / "network.yaml"
    file.write_text("network: {name: n}\n")
    async with AgentNetwork.load(file) as network:
        file.write_text("network: {name: m, event_timeout: 5}\n")
        changes = await network.reconfigure(load_config(file))
        assert sorted(changes.needs_restart) == ["event_timeout", "name", "network_id"]
