"""What only one process may hold, across reloads: where it is opened and let go rightly, and where it is not."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from modvisor.ipc.event import Event
from modvisor.supervisor import AgentNetwork

pytestmark = pytest.mark.anyio

WriteMod = Callable[..., str]

HOLDS = """
    import socket

    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Holds(BaseMod):
        @mod_event_handler("holds.port")
        async def port(self, event):
            return EventResponse(True, data=self.held.getsockname()[1])

        def open(self):
            self.held = socket.socket()
            self.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.held.bind(("127.0.0.1", self.config["port"] + (self.context.replica or 0)))
            self.held.listen()
"""
ACTIVATE = "\n        def activate(self):\n            self.open()\n"
INITIALIZE = "\n        def initialize(self):\n            self.open()\n            return True\n"
DEACTIVATE = "\n        def deactivate(self):\n            self.held.close()\n"


@pytest.fixture
def port() -> int:
    """A free port with a free one behind it, below those that the system gives to whoever asks for any."""
    for first in range(20_000 + os.getpid() % 1000 * 10, 32_000):
        with socket.socket() as one, socket.socket() as two, suppress(OSError):
            one.bind(("127.0.0.1", first))
            two.bind(("127.0.0.1", first + 1))
            return first
    raise AssertionError("no two ports are free")


@pytest.mark.parametrize(
    ("hooks", "hint"),
    [
        (ACTIVATE, "give the mod a deactivate() that lets it go, or set 'reload: stop_first'"),
        (INITIALIZE, "open in activate() what only one process can hold, and let it go in deactivate()"),
    ],
)
async def test_a_port_that_the_old_process_holds_is_told_with_the_way_out(
    network: AgentNetwork, write_mod: WriteMod, port: int, hooks: str, hint: str
) -> None:
    loaded = await network.load_mod(write_mod("holds", HOLDS + hooks), {"port": port})
    assert loaded.success, loaded
    refused = await network.reload_mod("holds")
    assert refused.error == "initialize_failed"
    assert "Address already in use" in str(refused.message)
    assert hint in str(refused.message)
    assert (await network.process_event(Event("holds.port"))).data == port, "the old one serves"


@pytest.mark.parametrize("way", [{"hooks": ACTIVATE + DEACTIVATE}, {"hooks": ACTIVATE, "reload": "stop_first"}])
async def test_either_way_out_works(network: AgentNetwork, write_mod: WriteMod, port: int, way: dict[str, str]) -> None:
    assert (await network.load_mod(write_mod("holds", HOLDS + way.pop("hooks")), {"port": port}, **way)).success
    for _ in range(2):
        assert (await network.reload_mod("holds")).success
        assert (await network.process_event(Event("holds.port"))).data == port


async def test_another_failure_of_activate_after_a_deactivate_has_no_hint(
    network: AgentNetwork, write_mod: WriteMod, port: int
) -> None:
    assert (await network.load_mod(write_mod("holds", HOLDS + ACTIVATE + DEACTIVATE), {"port": port})).success
    write_mod("holds", HOLDS + "\n        def activate(self):\n            1 / 0\n" + DEACTIVATE)
    refused = await network.reload_mod("holds")
    assert "ZeroDivisionError" in str(refused.message)
    assert "stop_first" not in str(refused.message)
    assert (await network.process_event(Event("holds.port"))).data == port


async def test_another_number_of_workers_lets_go_before_it_takes(
    network: AgentNetwork, write_mod: WriteMod, port: int
) -> None:
    path = write_mod("holds", HOLDS + ACTIVATE + DEACTIVATE)
    assert (await network.load_mod(path, {"port": port}, workers=1)).success
    changed = await network.swap_mod("holds", path, {"port": port}, workers=2)
    assert changed.success, changed
    write_mod("holds", HOLDS + "\n        def activate(self):\n            1 / 0\n" + DEACTIVATE)
    assert not (await network.swap_mod("holds", path, {"port": port}, workers=1)).success
    answer = await network.process_event(Event("holds.port"))
    assert (answer.success, answer.data in (port, port + 1)) == (True, True), "the old ones are active again"
