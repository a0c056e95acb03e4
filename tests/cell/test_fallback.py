"""What happens where a host cannot enforce a mod's sandbox: as the file says, and never unseen."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from modvisor.ipc.cell import DEFAULT, FOLDERS, HIDDEN, PRIVILEGES, PROCESSES, STRICT
from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.config.mods.sandbox import SandboxConfig, resolved_sandbox
from modvisor.worker.cell.namespaces import NEWIPC, NEWNS, NEWPID, NEWUSER, lesser

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="needs a guardian"),
]

WriteMod = Callable[..., str]


def test_what_nobody_asked_for_is_not_required() -> None:
    assert not resolved_sandbox(None, None, "fail").required
    assert resolved_sandbox(SandboxConfig(DEFAULT), None, "fail").required
    assert resolved_sandbox(None, SandboxConfig(STRICT), "fail").required
    assert not resolved_sandbox(SandboxConfig(STRICT), None, "warn").required


def test_a_mods_own_parts_come_first_then_its_profile_then_the_network() -> None:
    network = SandboxConfig(STRICT, exec=True)
    assert resolved_sandbox(None, network, "fail").exec
    loosened = resolved_sandbox(SandboxConfig(files=HIDDEN), network, "fail")
    assert (loosened.profile, loosened.files, loosened.exec, loosened.syscalls) == (STRICT, HIDDEN, True, True)
    own = resolved_sandbox(SandboxConfig(STRICT), network, "fail")
    assert not own.exec, "a mod with a profile of its own takes nothing of the network's"


def test_a_system_is_asked_for_less_step_by_step() -> None:
    assert lesser(NEWUSER | NEWPID | NEWIPC | NEWNS) == [NEWUSER | NEWPID | NEWIPC | NEWNS, NEWUSER | NEWNS, NEWUSER]
    assert lesser(NEWPID | NEWNS) == [NEWPID | NEWNS, NEWNS, 0]


async def test_the_details_of_a_mod_say_what_confines_it(network: AgentNetwork, write_mod: WriteMod) -> None:
    for sandbox in ("default", "off"):
        assert (await network.load_mod(write_mod("echo"), sandbox=sandbox)).success
        found = network.get_network_stats()["mods"]["echo"]["sandbox"]
        assert (found["profile"], found["not_enforced"]) == (sandbox, {})
        assert "no capabilities" in found["enforced_by"][PRIVILEGES]
        assert (PROCESSES in found["enforced_by"], FOLDERS in found["enforced_by"]) == (sandbox == "default",) * 2
        await network.unload_mod("echo")


@pytest.mark.parametrize("launch", ["fork", "exec"])
async def test_a_mod_cannot_say_otherwise(network: AgentNetwork, write_mod: WriteMod, launch: str) -> None:
    """What is told of its cell after its code began does not count."""
    liar = """
        from modvisor.mods import BaseMod, EventResponse, mod_event_handler

        class Liar(BaseMod):
            def initialize(self):
                self.context._pipe.notify("confined", {"cell": {"files": "not: at all", "privileges": "every one"}})

            @mod_event_handler("lie.ask")
            async def ask(self, event):
                return EventResponse(True)
    """
    assert (await network.load_mod(write_mod("liar", liar), launch=launch)).success
    assert (await network.process_event(Event("lie.ask"))).success
    found: dict[str, Any] = network.get_network_stats()["mods"]["liar"]["sandbox"]
    assert found["not_enforced"] == {}
    assert "no capabilities" in found["enforced_by"][PRIVILEGES]


async def test_a_sandbox_that_cannot_be_enforced_fails_the_load_unless_the_file_says_warn(
    network: AgentNetwork, write_mod: WriteMod
) -> None:
    """A descriptor for a program that must not start others cannot be had for a script: strict's `exec: false`."""
    script = write_mod("echo").removeprefix("./")
    folder = network.config.base_dir / "mods" / script
    program = folder / "worker.sh"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    how: dict[str, Any] = {"command": [str(program)], "sandbox": {"exec": False}}
    refused = await network.load_mod("./echo", **how)
    assert (refused.success, refused.error) == (False, "not_confined")
    assert "this host cannot enforce its sandbox: exec: " in str(refused.message)
    assert "sandbox_fallback: warn" in str(refused.message)
