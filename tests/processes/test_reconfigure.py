"""A changed network file, applied to a running network: only what changed is touched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.config.network.effects import EFFECTS, Effect, changed_keys, in_force
from modvisor.supervisor.config.network.network_file import load_config, parse_config
from modvisor.supervisor.config.printed.reference import TABLES
from tests.config.other_values import other_value

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
        assert sorted(changes.needs_restart) == ["event_timeout", "id", "name"]


SECRET = "tested-with-a-secret-of-the-tests"
TLS = {"cert": "a.pem", "key": "b.pem", "client_ca": "c.pem"}
CLUSTER_TLS = {"cert": "a.pem", "key": "b.pem", "ca": "c.pem"}
CLUSTER = {
    "cluster.secret": {"secret": "fed4c1b29a0e8d7766554433"},
    "cluster.user": {"user": "node", "password": "a-password-of-the-tests"},
    "cluster.password": {"user": "node", "password": "a-password-of-the-tests"},
    "cluster.replicas": {"replicas": 3},
    "cluster.tls.cert": {**CLUSTER_TLS, "cert": "other.pem"},
    "cluster.tls.key": {**CLUSTER_TLS, "key": "other.pem"},
    "cluster.tls.ca": {**CLUSTER_TLS, "ca": "other.pem"},
}
GIVEN = CLUSTER | {  # values that other keys must fit
    "network.tls.cert": {**TLS, "cert": "other.pem"},
    "network.tls.key": {**TLS, "key": "other.pem"},
    "network.tls.client_ca": {**TLS, "client_ca": "other.pem"},
    "network.tls.client_required": {**TLS, "client_required": True},
    "agents.default_group": {"default_group": "staff"},
    "network.name": {"name": "other", "id": "demo"},
}


ALSO = {"agents.requires_password": ["agents.registration"]}
"""The key that an older one stands for."""


async def test_each_key_of_the_network_does_what_the_table_says(tmp_path: Path) -> None:
    """Change every key of the file but those of mods, one after the other, in one network that runs."""
    base: dict[str, Any] = {"network": {"name": "demo", "tls": TLS}, "agent_groups": {"staff": {}, "NAME": {}}}
    keys = [name for name in EFFECTS if not name.startswith(("mods[]", "cluster", "the file.cluster"))]
    async with AgentNetwork.from_config(base, base_dir=tmp_path) as network:
        for name in keys:
            changed = _changed(name, base, tmp_path)
            before = network.config
            changes = await network.reconfigure(parse_config(changed, base_dir=tmp_path))
            told = name.removeprefix("the file.").removeprefix("network.")
            assert (changes.added, changes.removed, changes.changed) == ({}, {}, {}), name
            is_applied = EFFECTS[name] is Effect.NOW
            named = [*ALSO.get(told, ()), told]
            expected = (named, []) if is_applied else ([], named)
            assert (changes.applied, changes.needs_restart) == expected, name
            assert (network.config != before) is is_applied, f"{name}: told as {EFFECTS[name]}, and is not"
            again = await network.reconfigure(parse_config(changed, base_dir=tmp_path))
            assert (again.applied, again.needs_restart) == ([], expected[1]), f"{name}: told again"
            await network.reconfigure(parse_config(base, base_dir=tmp_path))


@pytest.mark.parametrize("name", [name for name in EFFECTS if name.startswith("cluster")])
def test_each_key_of_a_cluster_needs_a_restart(name: str, tmp_path: Path) -> None:
    """They are compared here: a network that runs would need servers."""
    cluster = {
        "servers": ["nats://10.0.0.1"],
        "secret": SECRET,
        "node": "NAME",
        "tls": CLUSTER_TLS,
        "nodes": {"NAME": {}},
    }
    base: dict[str, Any] = {"network": {"name": "demo"}, "cluster": cluster}
    before, after = (parse_config(data, base_dir=tmp_path) for data in (base, _changed(name, base, tmp_path)))
    told = [key.name for key in changed_keys(before, after)]
    assert any(name.startswith(each) for each in told), told
    assert in_force(before, after).cluster == before.cluster


def _changed(name: str, base: dict[str, Any], base_dir: Path) -> dict[str, Any]:
    table, _, key = name.rpartition(".")
    described = TABLES[table][key]
    found = GIVEN.get(name) or {key: other_value(described.reader, described.default, base_dir)}
    if table == "the file":
        return base | found
    for part in reversed(table.split(".")[1:]):  # agent_groups.NAME.quota
        found = {part: found}
    section = table.partition(".")[0]
    return base | {section: base.get(section, {}) | found}


async def test_limits_of_agents_are_applied_at_once(tmp_path: Path) -> None:
    file = tmp_path / "network.yaml"
    file.write_text("network: {name: n}\n")
    async with AgentNetwork.load(file) as network:
        assert (await network.register_agent("first")).success
        file.write_text("network: {name: n}\nagents: {max_agents: 1}\n")
        assert (await network.read_file_again()).applied == ["agents.max_agents"]
        refused = await network.register_agent("second")
        assert "agents.max_agents" in str(refused.message)
