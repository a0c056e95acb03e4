"""What the node that ran a mod knew of it, the next node that runs it knows, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import until

from .networks import Nodes, homes, nodes, ping

__all__ = ["nodes"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

WriteMod = Callable[..., str]

TELLS = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Tells(BaseMod):
        @mod_event_handler("test.ping")
        async def ping(self, event):
            return EventResponse(True, data=self.config)
"""

DIES = """
    import os
    from modvisor.mods import BaseMod, mod_event_handler

    class Dies(BaseMod):
        @mod_event_handler("test.ping")
        async def ping(self, event):
            os._exit(3)
"""

ON = {"on": ["a", "b"]}


async def test_the_config_of_a_reload_goes_along_until_the_file_rules_again(nodes: Nodes, write_mod: WriteMod) -> None:
    mods = [{"path": write_mod("tells", TELLS), "config": {"color": "red"}, "placement": ON}]
    a, b = nodes("a", mods), nodes("b", mods)
    await a.initialize()
    await b.initialize()
    done = await b.reload_mod("tells", config={"color": "blue"})
    assert done.success, done
    assert (await ping(b, "tells")).data == {"color": "blue"}
    await a.shutdown()
    await until(lambda: homes(b) == {"tells": "b"})
    assert (await ping(b, "tells")).data == {"color": "blue"}
    await b.shutdown()
    again = nodes("a", mods)
    await again.initialize()
    assert (await ping(again, "tells")).data == {"color": "red"}, "the network has started anew"


async def test_a_quarantine_goes_along_with_its_cause_and_ends_with_a_restart(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    restart = {"max_restarts": 0, "probe_after": None}
    mods = [{"path": write_mod("dies", DIES), "restart": restart, "placement": ON, "max_attempts": 1}]
    a, b = nodes("a", mods), nodes("b", mods)
    await asyncio.gather(a.initialize(), b.initialize())
    holder, other = (a, b) if homes(a) == {"dies": "a"} else (b, a)
    for _ in range(3):
        await ping(holder, "dies")
    await until(lambda: holder.get_loaded_mods()["dies"]["state"] == "quarantined")
    await until(lambda: other.get_loaded_mods()["dies"]["state"] == "quarantined")
    await holder.shutdown()
    await until(lambda: other.get_loaded_mods()["dies"]["state"] == "quarantined" and other.mods_here() == {"dies"})
    figures = other.get_network_stats()["mods"]["dies"]
    assert "is quarantined: ended 1 times within" in figures["quarantined"]
    assert figures["pid"] is None
    assert (await other.restart_mod("dies")).success
    assert other.get_loaded_mods()["dies"]["state"] == "ready"


async def test_a_changed_file_is_applied_node_by_node_and_the_others_are_named(
    nodes: Nodes, write_mod: WriteMod, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_mod("tells", TELLS)

    def mods(color: str, *more: str) -> list[dict[str, Any]]:
        first = {"path": path, "config": {"color": color}, "placement": {"on": ["a"]}}
        return [first, *({"path": path, "id": name, "placement": {"on": ["b"]}} for name in more)]

    a, b = nodes("a", mods("red", "gone")), nodes("b", mods("red", "gone"))
    await asyncio.gather(a.initialize(), b.initialize())
    done = await a._reconfigured(nodes("a", mods("blue", "new")).config)
    assert done.success, done
    assert list(done.changed) == ["tells"]
    assert "then 'modvisor reconfigure --node b'" in done.elsewhere["b"]
    assert (await ping(b, "tells")).data == {"color": "blue"}
    await until(lambda: "node a: its network file (" in caplog.text)
    done = await b._reconfigured(nodes("b", mods("blue", "new")).config)
    assert done.success, done
    assert (list(done.removed), list(done.added), done.elsewhere) == (["gone"], ["new"], {})
    await until(lambda: homes(a) == homes(b) == {"tells": "a", "new": "b"})
    await until(lambda: a.get_loaded_mods()["new"]["state"] == "ready")


FALLS = """
    import asyncio, os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Falls(BaseMod):
        @mod_event_handler("test.ping")
        async def ping(self, event):
            if event.payload.get("fall"):  # when it is answered: no event is to blame
                asyncio.get_running_loop().call_later(0.01, os._exit, 1)
            return EventResponse(True, data=str(self.context.storage_path))
"""


@pytest.mark.parametrize("copies", [1, 2])
async def test_a_mod_that_falls_on_one_node_after_the_other_is_quarantined_as_on_one_node(
    nodes: Nodes, write_mod: WriteMod, caplog: pytest.LogCaptureFixture, copies: int
) -> None:
    restart = {"max_restarts": 1, "first_delay": 0.0}
    mods = [{"path": write_mod("falls", FALLS), "restart": restart, "placement": {"copies": copies}}]
    a, b = nodes("a", mods), nodes("b", mods)
    await asyncio.gather(a.initialize(), b.initialize())
    folder = (await ping(a, "falls", fall=True)).data
    holder, other = (a, b) if "/state/a/" in folder else (b, a)
    await until(lambda: holder.get_network_stats()["mods"]["falls"]["restarts"] == 1)
    assert (await ping(other, "falls")).success, "it was restarted"
    await holder.shutdown()
    assert (await ping(other, "falls", fall=True)).success
    await until(lambda: other.get_loaded_mods()["falls"]["state"] == "quarantined")
    assert "is quarantined: ended 2 times within 60 s" in caplog.text


async def test_the_config_of_a_reload_that_failed_on_probation_does_not_go_along(
    nodes: Nodes, write_mod: WriteMod
) -> None:
    source = FALLS.replace("str(self.context.storage_path)", "self.config")
    mods = [{"path": write_mod("falls", source), "config": {"color": "red"}, "probation": 600, "placement": ON}]
    a, b = nodes("a", mods), nodes("b", mods)
    await asyncio.gather(a.initialize(), b.initialize())
    holder, other = (a, b) if homes(a) == {"falls": "a"} else (b, a)
    assert (await other.reload_mod("falls", config={"color": "blue"})).success
    assert (await ping(other, "falls", fall=True)).data == {"color": "blue"}
    cluster = holder._running().cluster
    assert cluster is not None
    records = cluster.desired.records
    await until(lambda: records["falls"].override is None)
    assert (await ping(other, "falls")).data == {"color": "red"}
    await holder.shutdown()
    await until(lambda: homes(other) == {"falls": other.config.cluster.node if other.config.cluster else ""})
    assert (await ping(other, "falls")).data == {"color": "red"}
