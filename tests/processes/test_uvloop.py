"""The same network on uvloop: events, large bytes, a crash, a reload, an end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until

uvloop = pytest.importorskip("uvloop")

pytestmark = pytest.mark.anyio

ECHO = """
    import asyncio
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Echo(BaseMod):
        @mod_event_handler("echo.at_once")
        async def at_once(self, event):
            return EventResponse(True, data=event.payload)

        @mod_event_handler("echo.later")
        async def later(self, event):
            await asyncio.sleep(0)
            return EventResponse(True, data=event.payload)

        @mod_event_handler("echo.in_thread")
        def in_thread(self, event):
            return EventResponse(True, data=event.payload)
"""


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


async def test_a_network_on_uvloop(network: AgentNetwork, write_mod: Callable[..., str]) -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    assert (await network.load_mod(write_mod("echo", ECHO))).success

    async def ask(name: str, payload: dict[str, Any]) -> Any:
        response = await network.process_event(Event(f"echo.{name}", "agent:alice", "mod:echo", payload=payload))
        assert response.success, response
        return response.data

    names = ("at_once", "later", "in_thread")
    answers = await asyncio.gather(*(ask(name, {"n": n}) for n in range(100) for name in names))
    assert [answer["n"] for answer in answers] == [n for n in range(100) for _ in names]
    for n in range(50):
        await ask("at_once", {"n": n})
    latency = network.get_network_stats()["mods"]["echo"]["traffic"]["latency_p50_ms"]
    assert latency > 0.001, "the clock that latencies are taken from knows less than a millisecond"
    blob = os.urandom(3_000_000)
    assert await ask("at_once", {"blob": blob}) == {"blob": blob}

    def pid() -> int:
        return network.get_loaded_mods()["echo"]["pid"]

    first = pid()
    os.kill(first, signal.SIGKILL)
    assert await ask("later", {"n": 1}) == {"n": 1}
    second = pid()
    assert (await network.reload_mod("echo")).success
    assert len({first, second, pid()}) == 3
    assert await ask("at_once", {"blob": blob}) == {"blob": blob}
    third = pid()
    assert (await network.unload_mod("echo")).success
    await until(lambda: not any(map(psutil.pid_exists, (first, second, third))))
