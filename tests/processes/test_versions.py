"""Several versions of one mod at once, each with what it needs: right at the load, at a reload, and at every restart."""

from __future__ import annotations

import os
import signal
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import ECHO, until

pytestmark = pytest.mark.anyio

WIKI = """
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler
    from .words import WORD

    class Wiki(BaseMod):
        version = "%s"

        @mod_event_handler("test.ping")
        async def ping(self, event):
            return EventResponse(True, data=[self.version, WORD])
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a mod that says its version and a word into a folder below tmp_path."""

    def write(folder: str, version: str, word: str = "", source: str = WIKI, **files: str) -> Path:
        home = tmp_path / folder
        home.mkdir(parents=True, exist_ok=True)
        (home / "mod.py").write_text(textwrap.dedent(source) % version)
        (home / "words.py").write_text(f"WORD = {word or version!r}\n")
        for name, text in files.items():
            (home / name.replace("_", ".")).write_text(text)
        return home

    return write


async def says(network: AgentNetwork, mod: str) -> Any:
    response = await network.process_event(Event("test.ping", "agent:alice", f"mod:{mod}"))
    return response.data if response.success else response


async def test_two_versions_of_a_folder_serve_at_once_and_come_back_as_they_were(
    network: AgentNetwork, write: Write
) -> None:
    write("mods/wiki", "3.0")
    write("mods/wiki/versions/1.4", "1.4")
    write("mods/wiki/versions/2.0", "2.0")
    assert (await network.load_mod("./wiki")).data["version"] == "3.0"
    for asked, mod_id in (("1.4", "wiki@1"), ("2.0.0", "wiki@2"), ("3", "wiki@3")):
        loaded = await network.load_mod("./wiki", version=asked, mod_id=mod_id)
        assert loaded.success, loaded
    assert [mod["version"] for mod in network.get_loaded_mods().values()] == ["3.0", "1.4", "2.0", "3.0"]
    write("mods/wiki/versions/1.4", "1.4", "half an edit")
    os.kill(network.get_loaded_mods()["wiki@1"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_network_stats()["mods"]["wiki@1"]["restarts"] == 1)
    assert await says(network, "wiki@1") == ["1.4", "1.4"], "the snapshot of that version"
    assert await says(network, "wiki@2") == ["2.0", "2.0"]
    assert (await network.reload_mod("wiki@1")).success
    assert await says(network, "wiki@1") == ["1.4", "half an edit"]
    assert (await network.unload_mod("wiki@2")).success
    assert list(network.get_loaded_mods()) == ["wiki", "wiki@1", "wiki@3"]


async def test_without_a_version_it_is_the_folder_itself_or_else_the_newest_final_one(
    network: AgentNetwork, write: Write
) -> None:
    for version in ("1.9", "1.10", "2.0rc1"):
        write(f"mods/wiki/versions/{version}", version)
    assert (await network.load_mod("./wiki")).data["version"] == "1.10"
    write("mods/wiki", "1.0")
    assert (await network.reload_mod("wiki")).data["to"] == "1.0"
    assert (await network.load_mod("./wiki", version="2.0rc1", mod_id="next")).data["version"] == "2.0rc1"
    write("mods/pre/versions/1.0a1", "1.0a1")
    failed = await network.load_mod("./pre")
    assert (failed.error, failed.data["available"]) == ("wrong_version", ["1.0a1"])
    assert "./pre has only pre-releases; request one of them" in str(failed.message)


async def test_versions_of_a_package_on_the_path_import_each_its_own_modules(
    make_network: Callable[..., AgentNetwork], write: Write, tmp_path: Path
) -> None:
    """By its full name as well."""
    source = WIKI.replace("from .words", "from team.wiki.words")
    write("lib/team/wiki", "2.0", source=source)
    write("lib/team/wiki/versions/1.4", "1.4", source=source)
    (tmp_path / "lib/team/__init__.py").touch()
    network = make_network(
        {"mod_paths": ["lib"]},
        mods=["team.wiki", {"path": "team.wiki", "version": "1.4", "id": "old"}],
    )
    await network.initialize()
    assert (await says(network, "wiki"), await says(network, "old")) == (["2.0", "2.0"], ["1.4", "1.4"])
    os.kill(network.get_loaded_mods()["old"]["pid"], signal.SIGKILL)
    await until(lambda: network.get_network_stats()["mods"]["old"]["restarts"] == 1)
    assert await says(network, "old") == ["1.4", "1.4"]


async def test_what_is_not_there_is_told_with_what_is(network: AgentNetwork, write: Write) -> None:
    write("mods/wiki", "2.0")
    write("mods/wiki/versions/1.4", "1.4")
    failed = await network.load_mod("./wiki", version="3.0")
    assert (failed.error, failed.data["available"]) == ("wrong_version", ["1.4", "2.0"])
    assert "there is no version 3.0 of ./wiki" in str(failed.message)
    assert ": 1.4, 2.0 (the folder itself)" in str(failed.message)
    assert (await network.load_mod("./wiki", version="newest")).error == "bad_config"
    assert network.get_loaded_mods() == {}


async def test_a_worker_that_reports_another_version_is_refused(network: AgentNetwork, write: Write) -> None:
    """Its folder is called so, or nobody can tell before it runs."""
    write("mods/wiki/versions/2.0", "1.9")
    failed = await network.load_mod("./wiki", version="2.0")
    assert (failed.error, failed.data["asked"], failed.data["found"]) == ("wrong_version", "2.0", "1.9")
    computed = WIKI.replace('"%s"', '".".join("%s")')
    write("mods/other", "19", source=computed)
    failed = await network.load_mod("./other", version="2.0")
    assert (failed.error, failed.data["found"]) == ("wrong_version", "1.9")
    write("mods/other", "20", source=computed)
    assert (await network.load_mod("./other", version="2.0")).success
    assert await says(network, "other") == ["2.0", "20"]
    write("mods/other", "21", source=computed)
    failed = await network.reload_mod("other")
    assert (failed.error, failed.data["step"]) == ("wrong_version", "start")
    assert "the old one still serves" in str(failed.message)
    assert await says(network, "other") == ["2.0", "20"]


async def test_a_swap_changes_the_version_in_place(network: AgentNetwork, write: Write) -> None:
    write("mods/wiki/versions/1.0", "1.0")
    write("mods/wiki/versions/2.0", "2.0")
    await network.load_mod("./wiki", version="1.0")
    swapped = await network.swap_mod("wiki", "./wiki", version="2.0")
    assert (swapped.data["from"], swapped.data["to"]) == ("1.0", "2.0")
    failed = await network.swap_mod("wiki", "./wiki", version="4.0")
    assert (failed.error, failed.data["step"]) == ("wrong_version", "start")
    assert await says(network, "wiki") == ["2.0", "2.0"]


async def test_mod_yaml_says_the_version_of_a_class_that_does_not(network: AgentNetwork, write: Write) -> None:
    silent = WIKI.replace('version = "%s"', "code = '%s'")
    write("mods/wiki", "x", source=silent, mod_yaml="version: 2.10\ndescription: pages\n")
    assert (await network.load_mod("./wiki", version="2.10")).data["version"] == "2.10"
    assert await says(network, "wiki") == ["2.10", "x"]
    write("mods/wiki", "2.1", mod_yaml="version: 2.10\n")
    failed = await network.reload_mod("wiki")
    assert failed.error == "wrong_version", "what was asked for comes first"
    await network.unload_mod("wiki")
    failed = await network.load_mod("./wiki")
    assert failed.error == "invalid_mod"
    assert "its mod.yaml says version 2.10, but its class says 2.1" in str(failed.message)
    assert (failed.data["declared"], failed.data["found"]) == ("2.10", "2.1")


async def test_the_network_itself_may_end_the_version_asked_for_comes_back(
    make_network: Callable[..., AgentNetwork], write: Write
) -> None:
    write("mods/wiki/versions/1.0", "1.0")
    write("mods/wiki/versions/2.0", "2.0")
    network = make_network()
    await network.initialize()
    await network.load_mod("./wiki", version="1.0")
    await network.shutdown()
    await network.initialize()
    assert await says(network, "wiki") == ["1.0", "1.0"]


async def test_paths_of_a_mod_go_before_all_others(make_network: Callable[..., AgentNetwork], write: Write) -> None:
    """Two versions of a library, vendored; one of the two by a mod.yaml in the folder of that version."""
    source = WIKI.replace("from .words import WORD", "from conflicting import WORD")
    for release in ("1", "2"):
        home = write(f"mods/wiki/versions/{release}", release, source=source)
        (home / "vendor").mkdir()
        (home / "vendor" / "conflicting.py").write_text(f"WORD = 'library {release}'\n")
    (home / "mod.yaml").write_text("paths: [vendor]\n")
    network = make_network(
        mods=[
            {"path": "./wiki", "version": "1", "id": "one", "paths": ["mods/wiki/versions/1/vendor"]},
            {"path": "./wiki", "version": "2", "id": "two"},
        ]
    )
    await network.initialize()
    assert (await says(network, "one"), await says(network, "two")) == (["1", "library 1"], ["2", "library 2"])
    await network.unload_mod("two")
    (home / "mod.yaml").write_text("paths: [vendored]\n")
    failed = await network.load_mod("./wiki", version="2", mod_id="two")
    assert (failed.error, "paths[0]: the folder" in str(failed.message)) == ("bad_config", True)


async def test_an_echo_without_versions_can_be_asked_for_by_its_own(
    network: AgentNetwork, write_mod: Callable[..., str]
) -> None:
    path = write_mod("echo", ECHO)
    assert (await network.load_mod(path, version="1.0.0")).success
    assert (await network.load_mod(path, version="1.1", mod_id="next")).error == "wrong_version"


async def test_what_there_is_and_what_of_it_is_loaded(network: AgentNetwork, write: Write) -> None:
    write("mods/wiki", "2.0")
    write("mods/wiki/versions/1.0", "1.0")
    write("mods/broken", "1.0", source="this is no python ( # %s")
    await network.load_mod("./wiki")
    await network.load_mod("./wiki", version="1.0", mod_id="wiki@1")
    found = {mod["mod_path"]: mod for mod in await network.available_mods()}
    assert found["./wiki"]["loaded"] == ["wiki", "wiki@1"]
    assert found["./wiki"]["versions"] == ["2.0", "1.0"]
    assert (found["./broken"]["loaded"], "SyntaxError" in found["./broken"]["error"]) == ([], True)
    assert found["modvisor.mods.workspace.wiki"]["loaded"] == []
    answer = await network.process_event(Event("system.mod.available"))
    assert answer.data["mods"] == list(found.values())


async def test_by_event(network: AgentNetwork, write: Write) -> None:
    write("mods/wiki/versions/1.0", "1.0")
    write("mods/wiki/versions/2.0", "2.0")
    payload = {"mod_path": "./wiki", "version": "1.0", "mod_id": "wiki@1"}
    assert (await network.process_event(Event("system.mod.load", payload=payload))).data["version"] == "1.0"
