"""Somebody deletes a bucket of a network that runs. It goes on when the bucket is made again, as by a node that starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from modvisor.supervisor import AgentNetwork
from tests.conftest import until

from .networks import Nodes, homes, name_for, nodes, ping
from .test_reads_that_end import quicker

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

KEEPING = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Keeping(BaseMod):
        @mod_event_handler("test.ping")
        async def ping(self, event):
            await self.context.files.put("seen", b"1")
            return EventResponse(True, data=self.context.fencing_token)
"""


NAMES = ["claims", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mods", "state", "nodes"))]


@pytest.mark.parametrize("name", NAMES)
async def test_a_network_goes_on_with_a_bucket_that_was_made_again(
    nodes: Nodes, write_mod: Callable[..., str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    quicker(monkeypatch)
    mod = name_for("a", "b")
    mods = [{"path": write_mod(mod, KEEPING)}]
    a, b = nodes("a", mods), nodes("b", mods)
    await asyncio.gather(a.initialize(), b.initialize())
    await until(lambda: homes(b).get(mod) == "a" and homes(a).get(mod) == "a", 10)
    before = await ping(b, mod)
    assert before.success, before
    cluster = a._running().cluster
    link, watches = cluster.link, {"claims": cluster.claims, "mods": cluster.desired, "state": cluster.statuses}
    bucket = await link.bucket(name)
    await link.js.delete_key_value(bucket.name)
    if name in watches:
        await until(lambda: "somebody deleted it" in watches[name]._watch.problem, 10)
        assert (await ping(b, mod)).success, "the mods run on"
        await link.bucket(name)
        await until(lambda: not watches[name]._watch.problem, 10)
    else:
        await until(lambda: cluster.session.id is None, 10)  # the nodes themselves make it again
    await until(lambda: homes(b).get(mod) == "a" and a.get_loaded_mods()[mod]["state"] == "ready", 10)
    if name == "claims":
        await until(lambda: (held := cluster.claims.mine(mod)) is not None and held.revision > before.data, 10)
    await until_it_serves(b, mod, before.data)
    reloaded = await b.reload_mod(mod)
    assert reloaded.success, reloaded


async def until_it_serves(network: AgentNetwork, mod: str, token: int) -> None:
    """Wait until a mod that may start anew has answered, which writes behind its fence. Its token is no older one."""
    async with asyncio.timeout(10):
        while not (answer := await ping(network, mod)).success or answer.data < token:
            await asyncio.sleep(0.02)
