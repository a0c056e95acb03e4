"""The life of a mod, without a process of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from modvisor.ipc.errors import Code, RemoteProtocolError
from modvisor.ipc.pipe import Pipe
from modvisor.mods.base import BaseMod
from modvisor.worker import limits
from modvisor.worker.life import MAX_NEWS, Life, is_side_by_side
from modvisor.worker.loader import LoadFailed
from modvisor.worker.sources import LOCAL
from tests.conftest import until

pytestmark = pytest.mark.anyio

MOD = """
from modvisor.mods import BaseMod, EventResponse, mod_event_handler

class Notes(BaseMod):
    description = "Notes."

    def initialize(self):
        self.config["seen"] = (self.context.mod_id, self.context.replica)
        return self.config["public"]

    @mod_event_handler("notes.add")
    def add(self, event):
        return EventResponse(True)
"""


def life_of(mod: BaseMod | None = None) -> Life:
    life = Life(cast(Pipe, None))
    life._mod = mod
    return life


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., dict[str, Any]]]:
    """Give the parameters of a `load` whose traces in this process are removed afterwards."""
    monkeypatch.setattr(limits, "apply", lambda _limits: {"memory": "RLIMIT_DATA"})
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    (tmp_path / "mod.py").write_text(MOD)

    def build(**more: Any) -> dict[str, Any]:
        where = {"folder": str(tmp_path), "storage_path": str(tmp_path), "sys_path": ["/first"]}
        return {"mod_id": "notes", "mod_path": "./notes", "network_name": "net", **where, **more}

    yield build
    for name in [name for name in sys.modules if name.partition(".")[0] == LOCAL]:
        del sys.modules[name]


class Odd(BaseMod):
    """Every method goes wrong in another way."""

    def initialize(self) -> bool:
        return False

    def activate(self) -> None:
        raise KeyError("gone")

    def check_ready(self) -> bool:
        return False

    async def get_state(self) -> Any:
        return {"n": 1}

    def set_state(self, state: Any, from_version: str) -> Any:
        raise SystemExit(3)

    def shutdown(self) -> Any:
        return False


@pytest.mark.parametrize(
    ("name", "args", "code", "said"),
    [
        ("initialize", (), Code.INITIALIZE_FAILED, "Odd.initialize() returned False: the mod refuses to start"),
        ("activate", (), Code.INITIALIZE_FAILED, "Odd.activate() raised: KeyError: 'gone'"),
        ("check_ready", (), Code.NOT_READY, "Odd.check_ready() returned False: the mod refuses to serve"),
        ("set_state", (1, "1.0"), Code.STATE_REFUSED, "Odd.set_state() raised: SystemExit: 3"),
    ],
)
async def test_what_goes_wrong_has_a_code_and_names_the_call(
    name: str, args: tuple[Any, ...], code: str, said: str
) -> None:
    with pytest.raises(LoadFailed) as caught:
        await life_of(Odd()).call(name, *args)
    assert (caught.value.code, str(caught.value)) == (code, said)


async def test_plain_methods_and_coroutines_are_called_alike() -> None:
    life = life_of(Odd())
    assert await life.call("get_state") == {"n": 1}
    assert await life.call("shutdown") is False, "it may return anything"


async def test_an_event_before_the_load_breaks_the_protocol() -> None:
    with pytest.raises(RemoteProtocolError, match="before 'load'"):
        life_of().dispatcher()
    assert life_of().own_files() == {}


async def test_a_load_imports_configures_and_initializes(params: Callable[..., dict[str, Any]]) -> None:
    life = life_of()
    config: dict[str, Any] = {"public": True}
    manifest = await life.calls["load"](params(config=config, env={"NOTES": "yes"}, replica=2, version="3.4"))
    assert manifest["patterns"] == ["notes.add"]
    assert (manifest["version"], manifest["description"]) == ("3.4", "Notes.")
    assert manifest["enforced"] == {"memory": "RLIMIT_DATA"}
    assert manifest["side_by_side"]
    assert config["seen"] == ("notes", 2)
    assert (os.environ["NOTES"], sys.path[0]) == ("yes", "/first")
    assert [Path(file).name for file in life.own_files()] == ["mod.py"]
    assert set(await life.calls["snapshot"]({})) == {"local_mods.notes.mod"}
    await life.calls["shutdown"]({})
    assert life.is_shut_down
    await life.close(1.0)


@pytest.mark.parametrize(
    "name",
    ["activate", "deactivate", "get_state", "set_state", "merge_state", "split_state", "on_dependency"],
)
async def test_a_mod_that_holds_what_one_process_has_does_not_run_side_by_side(name: str) -> None:
    class Plain(BaseMod):
        def initialize(self) -> bool:
            return True

    assert is_side_by_side(Plain, ["work.do", "*"], [])
    assert not is_side_by_side(type("Holds", (Plain,), {name: lambda self, *_: None}), ["work.do"], [])


async def test_a_mod_that_hears_of_changes_does_not_run_side_by_side() -> None:
    assert not is_side_by_side(BaseMod, ["work.do"], ["*"])
    assert not is_side_by_side(BaseMod, ["work.do", "system.notification.register_agent"], [])


async def test_a_load_that_the_mod_refuses(params: Callable[..., dict[str, Any]]) -> None:
    life = life_of()
    with pytest.raises(LoadFailed, match="returned False: the mod refuses to start"):
        await life.calls["load"](params(config={"public": False}))
    await life.close(1.0)


class Listener(BaseMod):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, str]] = []
        self.closed = 0

    async def on_dependency(self, mod_id: str, what: str) -> None:
        await asyncio.sleep(0)
        self.heard.append((mod_id, what))
        if what == "bad":
            raise ValueError(what)

    def shutdown(self) -> None:
        self.closed += 1


async def test_news_come_in_order_though_one_goes_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    listener = Listener()
    life = life_of(listener)
    for what in ("ready", "bad", "away"):
        life.tell_news("wiki", what)
    await until(lambda: len(listener.heard) == 3)
    assert [what for _, what in listener.heard] == ["ready", "bad", "away"]
    assert "ValueError: bad" in capsys.readouterr().err
    life.stop()


async def test_a_slow_mod_misses_the_oldest_news() -> None:
    listener = Listener()
    life = life_of(listener)
    for number in range(MAX_NEWS + 50):
        life.tell_news("wiki", str(number))
    await until(lambda: len(listener.heard) == MAX_NEWS)
    assert listener.heard[0] == ("wiki", "50")
    life.stop()


async def test_a_mod_whose_supervisor_is_gone_is_shut_down_once() -> None:
    listener = Listener()
    life = life_of(listener)
    await life.close(1.0)
    assert listener.closed == 1
    asked = life_of(listener)
    await asked.calls["shutdown"]({})
    await asked.close(1.0)
    assert listener.closed == 2
