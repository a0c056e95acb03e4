"""A node that the servers do not let serve a subject goes on without it, and serves it when they do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.cluster.events import answering
from modvisor.supervisor.cluster.link import wire
from tests.conftest import until

from .networks import config_of_node, ping
from .servers import Server, Servers

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]


def _users(*denied: str) -> str:
    names = ", ".join(f'"{each}"' for each in denied)
    permissions = f'{{ publish: ">", subscribe: {{ allow: ">", deny: [{names}] }} }}'
    return f"authorization {{ users: [{{ user: node, password: right, permissions: {permissions} }}] }}"


@pytest.fixture
def denying(tmp_path: Path, network_id: str) -> Iterator[Server]:
    """A server that does not let node a answer others about one mod and about its files, nor show itself."""
    root = f"mv.{network_id}"
    servers = Servers(1, tmp_path, more=[_users(f"{root}.mod.hidden.>", f"{root}.node.a.view", f"{root}.node.a.code")])
    try:
        yield servers.start()[0]
    finally:
        servers.close()


async def test_what_the_servers_do_not_permit_ends_no_node_and_is_served_when_they_do(
    denying: Server, network_id: str, tmp_path: Path, write_mod: WriteMod, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for where in (wire, answering):
        monkeypatch.setattr(where, "PERMITTED_AGAIN", 0.05)
    on_a = {"placement": {"on": ["a"]}}
    mods = [{"path": write_mod("hidden"), **on_a}, {"path": write_mod("open"), **on_a}]
    servers = Servers(1, tmp_path, all=[denying])
    more: dict[str, Any] = {"user": "node", "password": "right"}
    configs = [config_of_node(servers, network_id, tmp_path, name, mods, **more) for name in ("a", "b")]
    a, b = (AgentNetwork.from_config(config, base_dir=tmp_path) for config in configs)
    async with a, b:
        await until(lambda: all(mod["state"] == "ready" for mod in b.get_loaded_mods().values()))
        assert (await ping(b, "open")).success
        assert (await ping(a, "hidden")).success
        event = Event("test.ping", "agent:alice", "mod:hidden", timeout=0.3)
        assert (await b.process_event(event)).error == "mod_away"
        for what in ("no other node can ask mod hidden here", "cannot show this one", "compare its files"):
            assert caplog.text.count(what) == 1
        assert caplog.text.count(f'node: permissions violation for subscription to "mv.{network_id}.mod.hidden') == 2
        assert "give its user the permissions of deploy/nats/permissions.conf" in caplog.text
        asked = asyncio.create_task(ping(b, "hidden"))
        denying.lines[1] = _users()
        (denying.folder / "server.conf").write_text("\n".join(denying.lines))
        assert denying.process is not None
        denying.process.send_signal(signal.SIGHUP)
        assert (await asked).success
        cluster = a._running().cluster
        assert cluster is not None
        await until(lambda: not cluster.link.problem)
