"""What README and docs show is what happens: the library tour, the mods, the list of commands."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modvisor.supervisor import AgentNetwork, Event
from modvisor.supervisor.command import EVERY
from modvisor.supervisor.commands import LOAD_KEYS, SystemCommands
from tests import warm

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MODS, VERSIONS, EVENTS = ((ROOT / "docs" / f"{page}.md").read_text() for page in ("mods", "versions", "events"))


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def test_the_library_tour_prints_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(blocks("yaml")[0])
    (tmp_path / "tour.py").write_text(blocks("python")[0])
    code = "import runpy, warnings; warnings.simplefilter('error'); runpy.run_path('tour.py', run_name='__main__')"
    done = warm.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == (blocks("text")[0], "", 0)


@pytest.mark.anyio
async def test_the_mod_it_shows_works(network: AgentNetwork, write_mod: Callable[..., str]) -> None:
    loaded = await network.load_mod(write_mod("guestbook", blocks("python")[1]))
    assert loaded.success, loaded
    added = await network.process_event(Event("guestbook.entry.add", "agent:ada", payload={"text": "hello"}))
    assert added.message == "thank you"
    assert (await network.process_event(Event("guestbook.entry.add", "agent:ada"))).error == "bad_input"
    assert (await network.process_event(Event("guestbook.entry.list"))).data == ["agent:ada: hello"]


@pytest.mark.anyio
async def test_the_mod_that_requires_another_one_works(network: AgentNetwork, write_mod: Callable[..., str]) -> None:
    loaded = await network.load_mod(write_mod("shop", blocks("python", VERSIONS)[0]))
    assert loaded.data["dependencies"] == ["wiki"]
    page = {"path": "home", "title": "Home", "content": "hello"}
    await network.process_event(Event("wiki.page.create", "agent:ada", payload=page))
    sold = await network.process_event(Event("shop.page.sell", "agent:ada", payload={"path": "home"}))
    assert sold.data == {"sold": "Home"}
    assert (await network.unload_mod("wiki")).error == "needed"


def test_the_test_of_a_mod_that_is_shown_passes(tmp_path: Path, write_mod: Callable[..., str]) -> None:
    write_mod("guestbook", blocks("python")[1])
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    (tmp_path / "test_guestbook.py").write_text(blocks("python", MODS)[0])
    done = warm.run_pytest(folder=tmp_path, timeout=60)
    assert "1 passed" in done.stdout, done.stdout


def test_every_command_of_the_network_is_in_its_table() -> None:
    shown = set(re.findall(r"`(system\.[a-z_.]+)`", EVENTS))
    known = set(SystemCommands(None, None)._commands)  # type: ignore[arg-type]
    assert known == shown - {
        "system.notification.register_agent", "system.notification.unregister_agent", "system.agent_kicked",
    }  # fmt: skip


def test_what_a_command_of_the_network_takes_is_in_its_row() -> None:
    """The keys of a mod's entry, which an operator may give, stand in docs/config.md."""
    for name, command in SystemCommands(None, None)._commands.items():  # type: ignore[arg-type]
        if command.keys is None:  # whatever is given
            continue
        [row] = [row for row in EVENTS.splitlines() if row.startswith("| ") and f"`{name}`" in row]
        taken = (
            command.keys - EVERY - LOAD_KEYS - {"path", "mod_path", "mod", "channel"}
        )  # other words for keys that are there
        assert {key for key in taken if not re.search(rf"\b{key}\b", row)} == set(), name


def test_the_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
