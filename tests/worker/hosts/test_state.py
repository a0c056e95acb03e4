"""What a mod of OpenAgents holds goes over to its next incarnation, in a real worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modvisor.ipc import messages
from modvisor.ipc.errors import RequestFailed

from .conftest import Core

pytestmark = pytest.mark.anyio

Make = Callable[[], Core]
Write = Callable[..., None]

HOLDS = """
import threading, tempfile
from dataclasses import dataclass, field
from pathlib import Path

@dataclass
class Page:
    text: str
    task: object = None
    lock: object = field(default_factory=asyncio.Lock)

class Helper:
    def __init__(self, mod):
        self.mod, self.path, self.gateway = mod, mod.get_storage_path, mod.network.event_gateway

class MyMod(BaseMod):
    greeting = "{greeting}"

    def __init__(self, name):
        super().__init__(name)
        self.word = "{greeting}"
        self.limit = 0
        self.pages = {{}}
        self.index = {{}}
        self.lock = asyncio.Lock()
        self.odd = None
        self.folder = tempfile.TemporaryDirectory(prefix="openagents_test_")

    def update_config(self, config):
        self.limit = config["limit"]

    def bind_network(self, network):
        super().bind_network(network)
        self.helper = None

    @mod_event_handler("mine.write")
    async def write(self, event):
        page = Page(event.payload["text"], asyncio.get_running_loop().create_task(asyncio.sleep(60)))
        self.pages["home"] = self.index["first"] = page
        self.helper = Helper(self)
        self.odd = lambda: None
        (Path(self.folder.name) / "file").write_text("kept")
        self.network.event_gateway.add_channel_member("pages", "alice")
        return True

    @mod_event_handler("mine.read")
    async def read(self, event):
        page = self.pages.get("home")
        async with self.lock:
            pass
        if page is None:
            return EventResponse(success=True, data=[self.word, self.limit])
        async with page.lock:
            helper = self.helper
            return EventResponse(success=True, data=[
                self.word, self.limit, page.text, page.task, self.index["first"] is page, helper.mod is self,
                helper.path() == self.get_storage_path(), helper.gateway is self.network.event_gateway, self.odd,
                (Path(self.folder.name) / "file").read_text(),
            ])

    def shutdown(self):
        self.pages.clear()
        self.network.event_gateway.remove_channel("pages")
        self.folder.cleanup()
        return True
"""


def holds(greeting: str = "hi") -> str:
    return HOLDS.format(greeting=greeting)


async def handed_over(old: Core, make_core: Make) -> Core:
    """What a reload does: the state, then the rest of the old one, then the switch; the new one.

    The state is taken first, because both workers are in one process and have one `sys.modules`.
    """
    state = await old.state()
    new = make_core()
    await new.load(config={"limit": 5})
    await new.pipe.request(messages.SET_STATE, {"state": state, "from_version": "0.0.0"})
    await old.pipe.request(messages.DEACTIVATE, {})
    await new.pipe.request(messages.ACTIVATE, {})
    return new


ALICE = {"agent_id": "alice", "metadata": {}, "group": None}


@pytest.fixture
async def old(make_core: Make, write_theirs: Write) -> Core:
    write_theirs(holds())
    core = make_core()
    core.agents = [ALICE]
    await core.start(config={"limit": 3})
    return core


async def test_what_has_changed_goes_over_and_the_rest_is_new(
    old: Core, make_core: Make, write_theirs: Write, caplog: pytest.LogCaptureFixture
) -> None:
    await old.ask("mine.write", {"text": "page"})
    write_theirs(holds("hello"))
    new = await handed_over(old, make_core)
    word, limit, *rest = await new.answer("mine.read")
    assert (word, limit) == ("hello", 5), "neither an edit nor the config is undone by the old value"
    assert rest == ["page", None, True, True, True, True, None, "kept"]
    assert "attribute odd is not handed over" in caplog.text


async def test_the_shutdown_of_the_old_one_leaves_the_channels_to_the_new_one(old: Core, make_core: Make) -> None:
    await old.ask("mine.write", {"text": "page"})
    await handed_over(old, make_core)
    assert [call["do"] for call in old.calls] == ["join"]
    await old.close()
    assert [call["do"] for call in old.calls] == ["join"]


async def test_an_unload_removes_its_channels(old: Core) -> None:
    await old.ask("mine.write", {"text": "page"})
    await old.close()
    assert [call["do"] for call in old.calls] == ["join", "close"]


async def test_the_old_one_serves_again_with_the_newest_state(old: Core, make_core: Make) -> None:
    await old.ask("mine.write", {"text": "one"})
    new = await handed_over(old, make_core)
    await new.ask("mine.write", {"text": "two"})
    await old.pipe.request(messages.SET_STATE, {"state": await new.state(), "from_version": "0.0.0"})
    await old.pipe.request(messages.ACTIVATE, {})
    assert (await old.answer("mine.read"))[:3] == ["hi", 3, "two"]


async def test_the_old_one_serves_again_without_a_state(old: Core) -> None:
    await old.pipe.request(messages.DEACTIVATE, {})
    await old.pipe.request(messages.ACTIVATE, {})
    assert await old.answer("mine.read") == ["hi", 3]


async def test_a_mod_that_does_not_start_again_says_so(make_core: Make, write_theirs: Write) -> None:
    write_theirs("""
        class MyMod(BaseMod):
            starts = 0

            def initialize(self):
                MyMod.starts += 1
                return MyMod.starts == 1
    """)
    core = make_core()
    await core.start()
    await core.pipe.request(messages.DEACTIVATE, {})
    with pytest.raises(RequestFailed, match=r"MyMod.initialize\(\) returned False: the mod refuses to start"):
        await core.pipe.request(messages.ACTIVATE, {})


async def test_channels_that_a_shutdown_has_closed_come_back_with_the_state(old: Core, make_core: Make) -> None:
    await old.ask("mine.write", {"text": "page"})
    state = await old.state()
    await old.close()  # as a reload does that stops the old one first
    new = make_core()
    new.agents = [ALICE]
    await new.start(state=state, config={"limit": 3})
    assert new.calls == [{"do": "join", "channel": "pages", "agent_id": "alice"}]


async def test_a_state_that_the_new_code_cannot_read_is_refused_with_the_next_step(
    old: Core, make_core: Make, write_theirs: Write
) -> None:
    await old.ask("mine.write", {"text": "page"})
    state = await old.state()
    write_theirs(holds().replace("Page", "Sheet"))
    new = make_core()
    await new.load(config={"limit": 3})
    with pytest.raises(
        RequestFailed, match=r"cannot be read by the new code \(AttributeError.*Page.*unload the mod"
    ) as told:
        await new.pipe.request(messages.SET_STATE, {"state": state, "from_version": "0.0.0"})
    assert told.value.code == "state_refused"


OWN = """
class MyMod(BaseMod):
    seen = set()

    @mod_event_handler("mine.see")
    async def see(self, event):
        self.seen = self.seen | {event.payload["n"]}
        return EventResponse(success=True, data=sorted(self.seen))

    def get_state(self):
        return {"seen": self.seen, "path": self.get_storage_path()}

    def load_state(self, state):
        self.seen = set(state["seen"])
"""


@pytest.mark.parametrize("kind", ["", "async "])
async def test_a_class_with_both_is_asked_for_its_own_state(make_core: Make, write_theirs: Write, kind: str) -> None:
    write_theirs(OWN.replace("def get", f"{kind}def get").replace("def load", f"{kind}def load"))
    old, new = make_core(), make_core()
    await old.start()
    await old.ask("mine.see", {"n": 1})
    state = await old.state()
    assert "attributes" not in state
    await new.start(state=state)
    assert await new.answer("mine.see", {"n": 2}) == [1, 2]


async def test_a_setter_takes_the_state_of_another_kind_of_mod_as_it_is(make_core: Make, write_theirs: Write) -> None:
    write_theirs(OWN)
    core = make_core()
    await core.start(state={"seen": [4], "agents": 7, "channels": 7})
    assert await core.answer("mine.see", {"n": 2}) == [2, 4]


@pytest.mark.parametrize("state", [{"pages": 1}, 7, {"format": 99}])
async def test_the_state_of_another_kind_of_mod_needs_a_setter(
    make_core: Make, write_theirs: Write, state: Any
) -> None:
    write_theirs("class MyMod(BaseMod): pass")
    core = make_core()
    await core.load()
    with pytest.raises(RequestFailed, match="not one of a mod of OpenAgents") as told:
        await core.pipe.request(messages.SET_STATE, {"state": state, "from_version": "1.0"})
    assert told.value.code == "state_refused"


async def test_a_constructor_leaves_no_temporary_folders(
    make_core: Make, write_theirs: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their base class looks up every property of a mod before the mod has a network."""
    write_theirs("""
        class MyMod(BaseMod):
            @property
            def pages(self):
                return self.get_storage_path()
    """)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    await make_core().start()
    assert list((tmp_path / "temporary").iterdir()) == []
