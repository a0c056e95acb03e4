"""Files that a mod must not see stay hidden, and what lies beside them stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.supervisor import AgentNetwork, Event
from tests.conftest import until

pytestmark = pytest.mark.anyio

LOOK = """
    import os
    from pathlib import Path
    from modvisor.mods import BaseMod, EventResponse, mod_event_handler

    class Look(BaseMod):
        @mod_event_handler("look.read")
        async def read(self, event):
            path = Path(event.payload["path"])
            return EventResponse(True, data=path.read_text() if path.is_file() else None)

        @mod_event_handler("look.list")
        async def list(self, event):
            return EventResponse(True, data=sorted(os.listdir(event.payload["path"])))

        @mod_event_handler("look.write")
        async def write(self, event):
            Path(event.payload["path"]).write_text("written")
            return EventResponse(True)
"""

FILE = """
network: {name: demo, sandbox: default}
mods:
  - path: ./look
    required: true
    env: {TOKEN: {from: 'file:secrets/token'}}
"""


@pytest.fixture
async def asked(tmp_path: Path, write_mod: Callable[..., str]) -> Any:
    """Ask a mod of a network whose file is in a folder with others."""
    write_mod("look", LOOK)
    for name in ("secrets", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "secrets" / "token").write_text("secret")
    (tmp_path / "network.yaml").write_text(FILE)
    async with AgentNetwork.load(tmp_path / "network.yaml") as network:

        async def ask(what: str, path: str) -> Any:
            event = Event(f"look.{what}", "agent:a", payload={"path": str(tmp_path / path)})
            answer = await network.process_event(event)
            return answer.data if answer.success else answer.error

        yield ask


@pytest.mark.slow  # in the table of attacks, too
async def test_they_stay_hidden_when_they_are_replaced(asked: Any, tmp_path: Path) -> None:
    for name in ("network.yaml", "secrets/token"):
        new = tmp_path / f"{name}.new"
        new.write_text("new")
        new.replace(tmp_path / name)
        assert await asked("read", name) is None
    assert "network.yaml" not in await asked("list", ".")
    assert await asked("list", "secrets") == []


async def test_what_lies_beside_them_is_seen_also_later(asked: Any, tmp_path: Path) -> None:
    assert await asked("read", "data/later") is None
    (tmp_path / "data" / "later").write_text("later")
    (tmp_path / "beside").write_text("beside")
    assert await asked("read", "data/later") == "later"
    assert await asked("read", "beside") == "beside"
    assert await asked("write", "data/own") is None
    assert (tmp_path / "data" / "own").read_text() == "written"


@pytest.mark.slow
async def test_what_was_not_there_before_is_seen_when_it_comes(asked: Any, tmp_path: Path) -> None:
    assert await asked("read", "later") is None
    (tmp_path / "later").write_text("later")
    while await asked("read", "later") is None:
        pass
    assert await asked("read", "later") == "later"


async def test_no_other_network_file_and_no_other_code_can_be_put_there(asked: Any, tmp_path: Path) -> None:
    for name in ("network.yml", "network.yaml", "mods/look/mod.py", "mods/other"):
        assert await asked("write", name) == "handler_error", name
    assert (tmp_path / "network.yaml").read_text() == FILE


@pytest.mark.parametrize("spares", [0, 1])
async def test_a_secret_file_of_a_mod_that_is_loaded_later_is_hidden_from_those_that_run(
    tmp_path: Path, write_mod: Callable[..., str], spares: int
) -> None:
    write_mod("look", LOOK)
    (tmp_path / "keys").mkdir()
    for name in ("token", "other", "mine"):
        (tmp_path / "keys" / name).write_text(name)
    (tmp_path / "network.yaml").write_text(f"network: {{name: demo, sandbox: default, spares: {spares}}}\n")
    async with AgentNetwork.load(tmp_path / "network.yaml") as network:

        async def load(mod_id: str, **more: Any) -> None:
            await until(lambda: network.get_network_stats()["spares"]["waiting"] == spares)
            answer = await network.load_mod("./look", mod_id=mod_id, **more)
            assert answer.success, answer.message

        async def read(mod_id: str, name: str) -> Any:
            path = str(tmp_path / "keys" / name)
            answer = await network.process_event(Event("look.read", "agent:a", f"mod:{mod_id}", {"path": path}))
            return answer.data if answer.success else answer.error

        await load("early")
        may_read = {"profile": "default", "read": [str(tmp_path / "keys" / "token")]}
        await load("allowed", sandbox=may_read)
        assert [await read("early", name) for name in ("token", "other")] == ["token", "other"]
        await load("late", env={"TOKEN": {"from": f"file:{tmp_path}/keys/token"}})
        while await read("early", "token") == "token":  # its warden hears of it meanwhile
            pass
        assert await read("early", "token") == "handler_error"
        assert await read("late", "token") is None
        assert await read("allowed", "token") == "token"
        assert [await read("early", name) for name in ("other", "mine")] == ["other", "mine"]
        await load("allowed-later", sandbox=may_read)

        new = tmp_path / "keys" / "token.new"
        new.write_text("new")
        new.replace(tmp_path / "keys" / "token")
        while await read("early", "token") == "new":  # until the warden has covered it again
            pass
        assert await read("early", "token") == "handler_error"
        assert [await read(mod_id, "token") for mod_id in ("allowed", "allowed-later")] == ["new", "new"]
        await load("last")
        assert await read("last", "token") is None
