"""The mod.yaml of a mod is its author's: by it nothing runs outside of the cell, and nothing more is seen in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event

pytestmark = pytest.mark.anyio

LOOK = """
    import os
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Look(BaseMod):
        @mod_event_handler("look.list")
        async def list(self, event):
            return EventResponse(True, data=sorted(os.listdir(event.payload["path"])))
"""


@pytest.fixture
def of_the_author(tmp_path: Path, write_mod: Callable[..., str]) -> Callable[..., str]:
    """Write a mod with a mod.yaml."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)

    def write(mod_file: str) -> str:
        path = write_mod("look", LOOK)
        (tmp_path / "mods/look/mod.yaml").write_text(mod_file)
        return path

    return write


async def listed(network: AgentNetwork, folder: Path) -> Any:
    answer = await network.process_event(Event("look.list", "agent:a", payload={"path": str(folder)}))
    return answer.data if answer.success else answer.error


@pytest.mark.parametrize("profile", ["default", "strict"])
async def test_a_python_that_it_names_is_run_in_the_cell_alone(
    profile: str, make_network: Callable[..., AgentNetwork], of_the_author: Callable[..., str], tmp_path: Path
) -> None:
    path = of_the_author("python: ./python")
    network = make_network()
    await network.initialize()
    proof, state = tmp_path / "proof", network.state_dir.root
    proof.touch()
    os.chmod(proof, 0o666)
    (tmp_path / "mods/look/python").write_text(f"#!/bin/sh\nls {state} >> {proof}\n")
    (tmp_path / "mods/look/python").chmod(0o755)
    loaded = await network.load_mod(path, sandbox=profile)
    assert not loaded.success
    assert "network.db" not in proof.read_text()


async def test_folders_that_it_names_show_nothing_that_is_hidden(
    make_network: Callable[..., AgentNetwork], of_the_author: Callable[..., str], write_mod: Callable[..., str]
) -> None:
    network = make_network()
    await network.initialize()
    assert (await network.load_mod(write_mod("echo"))).success
    other = network.state_dir.storage_of("echo")
    (other / "file").touch()
    assert (await network.load_mod(of_the_author(f"paths: [{other}]"), sandbox="default")).success
    assert await listed(network, other) == "handler_error"


@pytest.mark.parametrize("mod_file", ["paths: [{0}]", "python: {0}/bin/python", "command: [/bin/true, {0}/file]"])
async def test_what_it_names_elsewhere_is_refused_under_strict(
    mod_file: str, make_network: Callable[..., AgentNetwork], of_the_author: Callable[..., str], tmp_path: Path
) -> None:
    private = tmp_path / "private"
    (private / "bin").mkdir(parents=True)
    (private / "file").touch()
    (private / "bin" / "python").write_text("#!/bin/sh\n")
    (private / "bin" / "python").chmod(0o755)
    network = make_network()
    await network.initialize()
    loaded = await network.load_mod(of_the_author(mod_file.format(private)), sandbox="strict")
    assert (loaded.success, loaded.error) == (False, "not_confined")
    assert f"{private}" in str(loaded.message)
    assert "network file" in str(loaded.message)
